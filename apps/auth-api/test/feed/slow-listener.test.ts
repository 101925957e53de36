/** The feed of one instance, read slower than its log moves. */
import { randomBytes } from 'node:crypto';
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import { createRevoked } from '@latchkey/verifier/revoked';
import { expect, onTestFinished, test } from 'vitest';
import { createRevocationFeed } from '../../src/domain/revocation-feed.ts';

/** Entries kept to go on from. */
const KEPT = 2000;
/** What the copy holds as the listener comes: several events of it. */
const HELD = 8000;

function suite() {
  const revoked = createRevoked();
  revoked.begin({ id: 'epoch', born: 0 });
  let noted = 0;
  const copy = { ...revoked, position: () => `${noted}-0`, fresh: () => true, lag: () => 0 };
  const feed = createRevocationFeed({ copy: copy as unknown as RevocationCopy, lagMax: 2000, kept: KEPT });
  onTestFinished(() => feed.close());
  return {
    revoked,
    feed,
    /** Of each the copy is told, and then the feed. */
    note(count: number): void {
      for (let one = 0; one < count; one += 1) {
        const revocation = { sessionId: randomBytes(16).toString('base64url'), from: 0, until: 9e9 };
        noted += 1;
        revoked.apply(revocation);
        feed.note(`${noted}-0`, revocation);
      }
    },
  };
}

const sessionsIn = (text: string): string[] => text.match(/(?<="sid":")[^"]+/g) ?? [];

test('who reads everything while more is noted than is kept is told all of it, then that it is all, and can go on from there', async () => {
  const { feed, note, revoked } = suite();
  note(HELD);
  const listener = { lastEventId: undefined, mayListen: () => true };
  const told = new Set<string>();
  let [events, lastEventId] = [0, ''];
  for await (const chunk of feed.listen(listener)) {
    const text = String(chunk);
    for (const session of sessionsIn(text)) told.add(session);
    lastEventId = /^id: (.+)$/m.exec(text)?.[1] ?? lastEventId;
    // Until it is complete, nothing may be resumed from.
    if (!text.includes('event: complete')) expect(lastEventId).toBe('');
    if (text.includes('event: complete')) break;
    events += 1;
    note(KEPT / 4);
  }
  expect(events * (KEPT / 4)).toBeGreaterThan(2 * KEPT);
  const resumed = feed.listen({ ...listener, lastEventId });
  let start = '';
  for await (const chunk of resumed) {
    const text = String(chunk);
    start ||= text;
    for (const session of sessionsIn(text)) told.add(session);
    if (text.includes('event: alive')) break;
  }
  expect(start).toContain('"resumed":true');
  expect(told.size).toBe(revoked.size());
});

test('who can’t keep up with what is noted is not told that it was all', async () => {
  const { feed, note } = suite();
  note(HELD);
  let all = '';
  for await (const chunk of feed.listen({ lastEventId: undefined, mayListen: () => true })) {
    all += String(chunk);
    note(2 * KEPT);
  }
  expect(all).not.toContain('event: complete');
});

test('no sign of life is told of an epoch that ended while the listener took the news before it', async () => {
  const { feed, note, revoked } = suite();
  let asked = 0;
  const mayListen = (): boolean => {
    asked += 1;
    // After all was said: there is one piece of news, and before it is taken the epoch is another.
    if (asked === 2) {
      note(1);
      queueMicrotask(() => revoked.begin({ id: 'another', born: 1 }));
    }
    return true;
  };
  let text = '';
  for await (const chunk of feed.listen({ lastEventId: undefined, mayListen })) text += String(chunk);
  expect(text).toMatch(/event: complete.*event: revoked/s);
  expect(text).not.toContain('event: alive');
});
