import { randomUUID } from 'node:crypto';
import { connectDatabase } from '@latchkey/shared/database';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { type AuditType, createAuditStore } from '../src/store/audit.ts';
import { activeUser, decoded, logIn } from './accounts.ts';
import { PASSWORD, startMailSide, startTestApp, type TestApp } from './test-app.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
let worker: Awaited<ReturnType<typeof side.startWorker>>;
let db: ReturnType<typeof connectDatabase>;
let store: ReturnType<typeof createAuditStore>;

beforeAll(async () => {
  side = await startMailSide();
  [api, worker] = await Promise.all([startTestApp(side), side.startWorker()]);
  db = connectDatabase(side.databaseUrl, () => {});
  store = createAuditStore(db);
});
afterAll(async () => {
  await db.$disconnect();
  await Promise.all([api.close(), worker.stop()]);
  await side.stop();
});

const context = { requestId: 'r-1', traceparent: undefined, ip: '192.0.2.7', userAgent: 'a browser' };

/** What was recorded of a user, the oldest first, once there are that many events. */
async function recorded(userId: string, count: number) {
  return vi.waitFor(async () => {
    const events = await store.list({ userId, limit: 100 });
    if (events.length < count) throw new Error(`only ${events.map(({ type }) => type).join(', ')}`);
    return events.reverse();
  });
}

test('tells the whole life of an account in its order, and holds no secret of it', async () => {
  const email = await activeUser(api, side);
  const first = await logIn(api, email, 'phone');
  const userId = String(decoded(first.access_token).claims.sub);
  await recorded(userId, 3);
  const second = await logIn(api, email);
  await recorded(userId, 4);
  await api.login(email, 'not the password at all');
  await recorded(userId, 5);
  await api.delete(`/v1/sessions/${second.session.id}`, first.access_token);
  await recorded(userId, 6);
  await api.delete('/v1/sessions?except=current', first.access_token);
  await recorded(userId, 7);
  await api.delete('/v1/sessions/current', first.access_token);
  await recorded(userId, 8);
  const third = await logIn(api, email);
  await recorded(userId, 9);
  await api.delete('/v1/sessions', third.access_token);
  const events = await recorded(userId, 10);
  const by = { type: 'user', id: userId };
  const device = { token_format: 'jwt' };
  expect(events.map(({ type, actor, details }) => ({ type, actor, details }))).toEqual([
    { type: 'user.registered', actor: by, details: {} },
    { type: 'user.activated', actor: by, details: {} },
    { type: 'session.created', actor: by, details: { ...device, session_id: first.session.id } },
    { type: 'session.created', actor: by, details: { ...device, session_id: second.session.id } },
    { type: 'login.failed', actor: { type: 'user', id: null }, details: {} },
    { type: 'session.ended', actor: by, details: { session_id: second.session.id } },
    { type: 'sessions.ended', actor: by, details: { except: first.session.id } },
    { type: 'session.ended', actor: by, details: { session_id: first.session.id } },
    { type: 'session.created', actor: by, details: { ...device, session_id: third.session.id } },
    { type: 'sessions.ended', actor: by, details: {} },
  ]);
  for (const { ip, userAgent, requestId } of events) {
    expect({ ip, userAgent, requestId }).toEqual({
      ip: '127.0.0.1',
      userAgent: 'lightMyRequest',
      requestId: expect.stringMatching(/\S/),
    });
  }
  const written = JSON.stringify(events);
  for (const secret of [PASSWORD, first.access_token, first.refresh_token, third.refresh_token])
    expect(written).not.toContain(secret);
});

test('a reused refresh token is recorded as nobody known', async () => {
  const email = await activeUser(api, side);
  const strict = await startTestApp({ ...side, env: { REFRESH_GRACE: '0' } });
  try {
    const { access_token, refresh_token, session } = await logIn(strict, email);
    await strict.post('/v1/tokens/refresh', { refresh_token });
    expect((await strict.post('/v1/tokens/refresh', { refresh_token })).json().code).toBe('refresh_token_reused');
    const events = await recorded(String(decoded(access_token).claims.sub), 4);
    expect(events[3]).toMatchObject({
      type: 'token.refresh_reused',
      actor: { type: 'user', id: null },
      details: { session_id: session.id },
    });
  } finally {
    await strict.close();
  }
});

test('an address nobody has leaves no event', async () => {
  const before = await store.list({ type: 'login.failed', limit: 100 });
  await api.login('nobody-at-all@example.test');
  // A later event of a known user is there: the earlier one would be too.
  const email = await activeUser(api, side);
  const { access_token } = await logIn(api, email);
  await recorded(String(decoded(access_token).claims.sub), 3);
  expect(await store.list({ type: 'login.failed', limit: 100 })).toEqual(before);
});

test('the log only grows: no event can be changed, removed or emptied away', async () => {
  const userId = randomUUID();
  await store.record({ type: 'user.registered', actor: { type: 'user', id: userId }, userId, context });
  for (const statement of [
    `UPDATE audit_events SET ip = '198.51.100.1' WHERE user_id = '${userId}'`,
    `UPDATE audit_events SET ip = NULL, user_agent = NULL WHERE user_id = '${userId}'`,
    `DELETE FROM audit_events WHERE user_id = '${userId}'`,
    'TRUNCATE audit_events',
  ]) {
    await expect(db.$executeRawUnsafe(statement), statement).rejects.toThrow(/append-only/);
  }
  // Not even by who knows the switch: it allows the erasure and nothing else.
  await expect(
    db.$transaction(async (tx) => {
      await tx.$executeRaw`SET LOCAL latchkey.audit_forgets = 'on'`;
      await tx.$executeRaw`UPDATE audit_events SET type = 'client.created' WHERE user_id = ${userId}::uuid`;
    }),
  ).rejects.toThrow(/append-only/);
  expect(await store.list({ userId, limit: 10 })).toMatchObject([{ type: 'user.registered', ip: '192.0.2.7' }]);
});

test('forgetting a user takes out what is personal, of that user only, and keeps what happened', async () => {
  const [gone, kept] = [randomUUID(), randomUUID()];
  const event = (userId: string, type: AuditType, actor: 'user' | 'client') =>
    store.record({
      type,
      actor: { type: actor, id: actor === 'user' ? userId : 'console' },
      userId,
      context,
      details: { email: 'ada@example.test', reason: 'Ada said so', session_id: 's-1' },
    });
  await event(gone, 'session.created', 'user');
  await event(gone, 'user.suspended', 'client');
  await event(kept, 'session.created', 'user');
  await store.forget(gone);
  await store.forget(gone);
  const [suspended, created] = await store.list({ userId: gone, limit: 10 });
  expect(created).toMatchObject({ type: 'session.created', ip: null, userAgent: null, details: { session_id: 's-1' } });
  // The operator's address is not the user's.
  expect(suspended).toMatchObject({ type: 'user.suspended', ip: '192.0.2.7', details: { session_id: 's-1' } });
  expect(JSON.stringify([suspended, created])).not.toMatch(/ada/i);
  expect(await store.list({ userId: kept, limit: 10 })).toMatchObject([
    { ip: '192.0.2.7', userAgent: 'a browser', details: { email: 'ada@example.test' } },
  ]);
});

test('pages go back without a gap or a repeat while events are added', async () => {
  const userId = randomUUID();
  const add = (n: number) =>
    store.record({ type: 'session.created', actor: { type: 'user', id: userId }, userId, context, details: { n } });
  for (let n = 0; n < 5; n += 1) await add(n);
  const first = await store.list({ userId, limit: 2 });
  await add(5);
  const second = await store.list({ userId, limit: 2, cursor: first[1]?.id });
  const third = await store.list({ userId, type: 'session.created', limit: 2, cursor: second[1]?.id });
  expect([...first, ...second, ...third].map(({ details }) => details)).toEqual([4, 3, 2, 1, 0].map((n) => ({ n })));
  expect(await store.list({ userId, type: 'client.created', limit: 2 })).toEqual([]);
});
