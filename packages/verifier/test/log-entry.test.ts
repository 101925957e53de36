import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type NewRevocation, readEntry, writeEntry } from '../src/log-entry.ts';
import { createRevoked, readLine } from '../src/revoked.ts';

test.each<NewRevocation>([
  { sessionId: 'kZ0v1mJ4QmS5o0gq2u8f7A', from: 0, user: '0b8f1f6e-6a0e-4a53-9a53-0d7f3b1c2e4d' },
  { sessionId: 'kZ0v1mJ4QmS5o0gq2u8f7A', from: 1_795_800_000_123_456, user: '0b8f1f6e-6a0e-4a53-9a53-0d7f3b1c2e4d' },
  { sessionId: 'the-jti-of-a-clients-token', from: 0 },
  { userId: '0b8f1f6e-6a0e-4a53-9a53-0d7f3b1c2e4d', cutoff: 1_795_800_000_123_456 },
  { userId: ' a client 1 of any name ', cutoff: Number.MAX_SAFE_INTEGER - 1 },
  { keyId: 'a key' },
])('what is written of %o is read again', (revocation) => {
  const [name, text] = writeEntry(revocation);
  expect(readEntry(name, `1795800660 ${text}`)).toEqual({ ...revocation, until: 1_795_800_660 });
});

test('an entry of a newer release is none of this one, and what it adds to a session is not taken for its id', () => {
  expect(readEntry('galaxy', '1795800660 0 m31')).toBeUndefined();
  expect(readEntry('sid', '1795800660 0 phone ada and more')).toMatchObject({ sessionId: 'phone' });
});

test('an entry or a line without its numbers is none: what was revoked stays revoked', () => {
  for (const text of ['soon 0 ada', '1795800660 then ada', 'ada'])
    for (const name of ['sid', 'sub', 'kid'])
      expect([name, text, readEntry(name, text)]).toEqual([name, text, undefined]);
  expect(readLine({ sid: 'phone', until: 'soon' })).toBeUndefined();
  expect(readLine({ sid: 'phone', from: 'then', until: 1_795_800_660 })).toBeUndefined();
  expect(readLine({ sub: 'ada', cutoff: 'then', until: 1_795_800_660 })).toBeUndefined();
});

const id = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString('base64url'));
const until = fc.integer({ min: 1e9, max: 9_999_999_999 });
const instant = fc.oneof(fc.constant(0), fc.integer({ min: 1e15, max: 9_007_199_254_740_991 }));
const user = fc.uuid();
/** As they are written: of a session with its user, of one without, of a user. */
const entry = fc.oneof(
  fc.tuple(until, instant, id, user).map((words) => ['sid', words.join(' ')] as const),
  fc.tuple(until, instant, id).map((words) => ['sid', words.join(' ')] as const),
  fc.tuple(until, instant, user).map((words) => ['sub', words.join(' ')] as const),
);

test('the entry of a session or a user is read from its bytes as from its text', () => {
  fc.assert(
    fc.property(entry, ([name, text]) => {
      const [byBytes, byText] = [createRevoked(), createRevoked()];
      const entry = readEntry(name, text);
      if (entry) byText.apply(entry);
      expect(byBytes.applyBytes(Buffer.from(name), Buffer.from(text))).toBe(entry?.until);
      expect([...byBytes.lines()]).toEqual([...byText.lines()]);
      expect(byBytes.size()).toBe(1);
    }),
  );
});

test('whatever else an entry is, it is left to the text or read the same', () => {
  const damage = fc.record({ at: fc.nat(80), with: fc.string({ maxLength: 2 }), without: fc.nat(3) });
  const anyName = fc.constantFrom('sid', 'sub', 'kid', 'six', 'si', 'side');
  fc.assert(
    fc.property(anyName, entry, fc.array(damage, { minLength: 1, maxLength: 2 }), (name, [, whole], damages) => {
      const text = damages.reduce(
        (text, { at, with: more, without }) => text.slice(0, at) + more + text.slice(at + without),
        whole,
      );
      const [byBytes, byText] = [createRevoked(), createRevoked()];
      const until = byBytes.applyBytes(Buffer.from(name), Buffer.from(text));
      const entry = readEntry(name, text);
      if (until !== undefined && entry) byText.apply(entry);
      expect([...byBytes.lines()]).toEqual([...byText.lines()]);
      if (until !== undefined) expect(entry?.until).toBe(until);
    }),
    { numRuns: 2000 },
  );
});
