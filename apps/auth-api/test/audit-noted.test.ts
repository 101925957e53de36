/** Events that are recorded beside an answer: gathered, tried again, never twice. */
import { randomUUID } from 'node:crypto';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import type {} from '@latchkey/dev-stack/test-stack';
import { connectDatabase } from '@latchkey/shared/database';
import { createLogger } from '@latchkey/shared/logger';
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest';
import { createAudit } from '../src/domain/audit.ts';
import { createAuditStore } from '../src/store/audit.ts';
import { databaseProbe } from './mail-probe.ts';
import { newAddress } from './test-app.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: ReturnType<typeof connectDatabase>;
let store: ReturnType<typeof createAuditStore>;
let probe: ReturnType<typeof databaseProbe>;

beforeAll(async () => {
  database = await createTestDatabase(inject('databaseUrl'));
  db = connectDatabase(database.url, () => {});
  store = createAuditStore(db);
  probe = databaseProbe(database.url);
});
afterAll(async () => {
  await Promise.all([db.$disconnect(), probe.close()]);
  await database.drop();
});

const context = { requestId: 'r-1', traceparent: undefined, ip: '192.0.2.7', userAgent: 'a browser' };

/** What notes, and the lines it has logged. */
function noting() {
  const logs: string[] = [];
  const audit = createAudit(store, createLogger('test', 'info', { write: (line) => logs.push(line) }));
  return { audit, missing: () => logs.filter((line) => line.includes('missing in the audit log')) };
}

async function person(): Promise<string> {
  const { id } = await db.user.create({
    data: { id: randomUUID(), email: newAddress(), emailKey: newAddress(), passwordHash: '!', locale: 'en' },
  });
  return id;
}

const recorded = (userId: string) => store.list({ userId, limit: 2000 });

/** Holds what an event of the user waits for. @returns what lets go. */
async function hold(userId: string) {
  const holder = await probe.begin();
  await holder.query('SELECT FROM users WHERE id = $1 FOR UPDATE', [userId]);
  return () => holder.end('ROLLBACK');
}

test('an event that can not be recorded yet holds no other up, is recorded once it can be, and says when it happened', async () => {
  const { audit, missing } = noting();
  const [locked, free] = [await person(), await person()];
  const release = await hold(locked);
  let noted = 0;
  try {
    audit.noteOwn('session.ended', locked, context);
    noted = Date.now();
    for (let times = 0; times < 3; times += 1) audit.noteOwn('session.ended', free, context);
    await vi.waitFor(async () => expect(await recorded(free)).toHaveLength(3), { timeout: 10_000 });
    // One that comes later does not wait either.
    audit.noteOwn('session.created', free, context);
    await vi.waitFor(async () => expect(await recorded(free)).toHaveLength(4), { timeout: 10_000 });
    expect(await recorded(locked)).toEqual([]);
  } finally {
    await release();
  }
  await vi.waitFor(async () => expect(await recorded(locked)).toHaveLength(1), { timeout: 10_000 });
  await audit.close();
  const [event] = await recorded(locked);
  expect(event).toMatchObject({ type: 'session.ended', actor: { id: locked }, ip: '192.0.2.7' });
  expect(event?.at.getTime()).toBeLessThanOrEqual(noted);
  expect(await recorded(free)).toHaveLength(4);
  expect(missing()).toEqual([]);
});

test('who reads the log finds what was noted before, and does not wait for what can not be recorded yet', async () => {
  const { audit } = noting();
  const [locked, free] = [await person(), await person()];
  audit.noteOwn('session.created', free, context);
  expect((await audit.list({ userId: free, limit: 10 })).map(({ type }) => type)).toEqual(['session.created']);
  const release = await hold(locked);
  try {
    audit.noteOwn('session.ended', locked, context);
    expect(await audit.list({ userId: locked, limit: 10 })).toEqual([]);
  } finally {
    await release();
  }
  await audit.close();
});

test('an event of whose statement nobody knows how it ended is recorded once, however often it is tried', async () => {
  const userId = await person();
  const event = {
    id: randomUUID(),
    type: 'session.ended',
    actor: { type: 'user', id: userId },
    userId,
    context,
  } as const;
  await store.record(event);
  await Promise.all([store.record(event, { ...event, id: randomUUID() }), store.record(event)]);
  expect(await recorded(userId)).toHaveLength(2);
});

// The margin is 200 ms: this process may stand still for as long just then, hardly three times.
test('a statement that waits for a locked row ends on the server before its client gives it up', {
  retry: 2,
}, async () => {
  const userId = await person();
  const release = await hold(userId);
  try {
    await expect(
      store.record({ type: 'session.ended', actor: { type: 'user', id: userId }, userId, context }),
    ).rejects.toThrow(/55P03/);
  } finally {
    await release();
  }
});

test('what PostgreSQL will never take is logged, and those it was gathered with are recorded', async () => {
  const { audit, missing } = noting();
  const [good, bad] = [await person(), await person()];
  audit.noteOwn('session.ended', good, context);
  audit.noteOwn('session.ended', bad, { ...context, userAgent: 'a\u0000b' });
  audit.noteOwn('session.created', good, context);
  await vi.waitFor(() => expect(missing()).toHaveLength(1), { timeout: 10_000 });
  await audit.close();
  expect((await recorded(good)).map(({ type }) => type)).toEqual(['session.created', 'session.ended']);
  expect(await recorded(bad)).toEqual([]);
  expect(missing()).toHaveLength(1);
  expect(missing()[0]).toContain(bad);
});

test('of more events than may wait those on top are logged, the others recorded', async () => {
  const { audit, missing } = noting();
  const userId = await person();
  for (let times = 0; times < 1003; times += 1) audit.noteOwn('session.ended', userId, context);
  expect(missing()).toHaveLength(3);
  await audit.close();
  expect(await recorded(userId)).toHaveLength(1000);
});

test('closing waits for what can be recorded and not for ever; what could not be is logged', async () => {
  const { audit, missing } = noting();
  const [locked, free] = [await person(), await person()];
  const release = await hold(locked);
  try {
    audit.noteOwn('session.ended', locked, context);
    audit.noteOwn('session.ended', free, context);
    const asked = performance.now();
    await audit.close();
    expect(performance.now() - asked).toBeLessThan(5000);
  } finally {
    await release();
  }
  expect(await recorded(free)).toHaveLength(1);
  expect(missing()).toHaveLength(1);
  expect(missing()[0]).toContain(locked);
  // Who notes after that hears of it too.
  audit.noteOwn('session.ended', free, context);
  expect(missing()).toHaveLength(2);
});
