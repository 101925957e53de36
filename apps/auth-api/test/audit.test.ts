import { randomUUID } from 'node:crypto';
import type { WaitOptions } from '@latchkey/dev-stack/mail-catcher';
import { connectDatabase } from '@latchkey/shared/database';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { AUDIT_TYPES, type AuditType, createAuditStore } from '../src/store/audit.ts';
import { createUserStore } from '../src/store/users.ts';
import { decoded, logIn, registeredUser } from './accounts.ts';
import { addClient, clientToken, postForm } from './clients.ts';
import { databaseProbe } from './mail-probe.ts';
import { newAddress, PASSWORD, startMailSide, startTestApp, type TestApp } from './test-app.ts';

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

/** A user's row. @returns the id */
async function person(): Promise<string> {
  const { id } = await db.user.create({
    data: { id: randomUUID(), email: newAddress(), emailKey: newAddress(), passwordHash: '!', locale: 'en' },
  });
  return id;
}

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
  const email = await registeredUser(api, side);
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
  const email = await registeredUser(api, side);
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
  const email = await registeredUser(api, side);
  const { access_token } = await logIn(api, email);
  await recorded(String(decoded(access_token).claims.sub), 3);
  expect(await store.list({ type: 'login.failed', limit: 100 })).toEqual(before);
});

test('the log only grows: no event can be changed, removed or emptied away', async () => {
  const userId = await person();
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
  const [gone, kept] = [await person(), await person()];
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
  const forget = () => db.$executeRaw`SELECT audit_forget(${gone}::uuid, NULL)`;
  await forget();
  await forget();
  const [suspended, created] = await store.list({ userId: gone, limit: 10 });
  expect(created).toMatchObject({ type: 'session.created', ip: null, userAgent: null });
  // The operator's address is not the user's.
  expect(suspended).toMatchObject({ type: 'user.suspended', ip: '192.0.2.7' });
  for (const event of [suspended, created]) expect(event?.details).toEqual({ session_id: 's-1' });
  expect(await store.list({ userId: kept, limit: 10 })).toMatchObject([
    { ip: '192.0.2.7', userAgent: 'a browser', details: { email: 'ada@example.test' } },
  ]);
});

test('pages go back without a gap or a repeat while events are added', async () => {
  const userId = await person();
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

describe('what happens while somebody is deleted', () => {
  const event = (userId: string) =>
    ({
      type: 'session.ended',
      actor: { type: 'user', id: userId },
      userId,
      context,
      details: { email: 'ada' },
    }) as const;
  const stripped = { type: 'session.ended', ip: null, userAgent: null, requestId: 'r-1', details: {} };

  test('is recorded without what is personal: an event that was under way waits for the deletion, a later one finds nobody', async () => {
    const userId = await person();
    const probe = databaseProbe(side.databaseUrl);
    const deletion = await probe.begin();
    await deletion.query('DELETE FROM users WHERE id = $1', [userId]);
    await deletion.query('SELECT audit_forget($1, NULL)', [userId]);
    let done = false;
    const underWay = store.record(event(userId)).then(() => {
      done = true;
    });
    await vi.waitFor(async () =>
      expect(
        await probe.rows(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'INSERT%'`,
        ),
      ).toHaveLength(1),
    );
    expect(done).toBe(false);
    await deletion.end('COMMIT');
    await underWay;
    await store.record(event(userId));
    expect(await store.list({ userId, limit: 10 })).toMatchObject([stripped, stripped]);
    await probe.close();
  });

  test('is erased when it came first, though it was not committed yet', async () => {
    const userId = await person();
    const probe = databaseProbe(side.databaseUrl);
    const recording = await probe.begin();
    await recording.query(
      `INSERT INTO audit_events (type, actor_type, actor_id, user_id, ip, user_agent, request_id, details)
        VALUES ('session.ended', 'user', $1::text, $1::text::uuid, '192.0.2.7', 'a browser', 'r-1', '{"email":"ada"}')`,
      [userId],
    );
    const deleted = db.$transaction([
      db.$executeRaw`DELETE FROM users WHERE id = ${userId}::uuid`,
      db.$executeRaw`SELECT audit_forget(${userId}::uuid, NULL)`,
    ]);
    await vi.waitFor(async () =>
      expect(
        await probe.rows(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'DELETE%'`,
        ),
      ).toHaveLength(1),
    );
    await recording.end('COMMIT');
    await deleted;
    expect(await store.list({ userId, limit: 10 })).toMatchObject([stripped]);
    await probe.close();
  });

  test('stays on record as it was when the deletion comes to nothing', async () => {
    const userId = await person();
    const probe = databaseProbe(side.databaseUrl);
    const deletion = await probe.begin();
    await deletion.query('DELETE FROM users WHERE id = $1', [userId]);
    const underWay = store.record(event(userId));
    await deletion.end('ROLLBACK');
    await underWay;
    expect(await store.list({ userId, limit: 10 })).toMatchObject([{ ip: '192.0.2.7', details: { email: 'ada' } }]);
    await probe.close();
  });
});

test('a registration nobody confirmed is forgotten with what was recorded of the person', async () => {
  const email = newAddress();
  await api.register(email);
  const [row] = await db.$queryRaw<{ id: string }[]>`
    UPDATE users SET created_at = now() - interval '90 days' WHERE email = ${email} RETURNING id::text`;
  const userId = String(row?.id);
  expect(await store.list({ userId, limit: 10 })).toMatchObject([{ type: 'user.registered', ip: '127.0.0.1' }]);
  const users = createUserStore(db);
  expect(await users.forgetUnconfirmed(await users.unconfirmed(80 * 24 * 60 * 60), async () => {})).toBe(1);
  expect(await store.list({ userId, limit: 10 })).toMatchObject([
    { type: 'user.registered', ip: null, userAgent: null },
  ]);
});

/** Recorded by the command line, whose tests look at them. */
const BY_COMMAND_LINE: readonly AuditType[] = ['client.created', 'user.imported'];
/** It takes a mail server that refuses (failed-mails.test.ts). */
const OF_FAILED_MAILS: readonly AuditType[] = ['mail.retried', 'mail.discarded'];

test('a tour of everything that changes anything leaves every kind of event, and no secret in the log', async () => {
  const strict = await startTestApp({ ...side, env: { REFRESH_GRACE: '0' } });
  try {
    const secrets: string[] = [PASSWORD];
    const as = (token: string) => ({ authorization: `Bearer ${token}` });
    const keyOf = async (to: string, page: string, which: WaitOptions = {}) => {
      const { text } = await side.mail.waitFor(to, which);
      const key = new RegExp(`/${page}/([A-Za-z0-9]{32})`).exec(text)?.[1] ?? '';
      expect(key).toHaveLength(32);
      secrets.push(key);
      return key;
    };
    const session = async (email: string, password: string) => {
      const { access_token, refresh_token } = (await strict.login(email, password)).json();
      secrets.push(access_token, refresh_token);
      return { token: String(access_token), refresh: String(refresh_token) };
    };
    const ok = async (answer: ReturnType<TestApp['call']>) => expect((await answer).statusCode).toBeLessThan(300);

    const email = newAddress();
    await ok(strict.register(email));
    await keyOf(email, 'activate');
    await ok(strict.post('/v1/activations', { email }));
    await ok(strict.post(`/v1/activations/${await keyOf(email, 'activate', { count: 2 })}`));
    await strict.login(email, 'a password tried in vain');
    const first = await session(email, PASSWORD);
    await ok(strict.call('PATCH', '/v1/me', { display_name: 'Ada', locale: 'de' }, as(first.token)));
    await ok(strict.call('PATCH', '/v1/me', {}, as(first.token)));
    const [second, third] = ['seven purple teapots sing', 'nine yellow kettles hum'];
    secrets.push('a password tried in vain', second, third);
    const change = (current_password: string) =>
      strict.call('PUT', '/v1/me/password', { current_password, new_password: second }, as(first.token));
    expect((await change('a password tried in vain')).statusCode).toBe(401);
    await ok(change(PASSWORD));
    await ok(strict.post('/v1/password-resets', { email }));
    // Sent beside the news of the change: either may come first.
    const resetKey = await keyOf(email, 'reset-password', { subject: /^Wählen Sie ein neues Passwort/ });
    await ok(strict.post(`/v1/password-resets/${resetKey}`, { new_password: third }));
    const here = await session(email, third);
    const moved = newAddress('moved');
    await ok(strict.call('PUT', '/v1/me/email', { current_password: third, new_email: moved }, as(here.token)));
    await ok(strict.post(`/v1/email-changes/${await keyOf(moved, 'change-email')}`));
    const there = await session(moved, third);
    await ok(strict.delete('/v1/sessions?except=current', here.token));
    await ok(strict.delete('/v1/sessions/current', here.token));
    expect((await strict.post('/v1/tokens/refresh', { refresh_token: there.refresh })).statusCode).toBe(401);
    const reused = await session(moved, third);
    for (const status of [200, 401])
      expect((await strict.post('/v1/tokens/refresh', { refresh_token: reused.refresh })).statusCode).toBe(status);

    const admin = await addClient(side.databaseUrl, 'admin');
    const machine = await addClient(side.databaseUrl, 'introspect');
    secrets.push(admin.secret, machine.secret, await clientToken(strict, machine));
    const operator = await clientToken(strict, admin);
    secrets.push(operator);
    const act = (method: 'POST' | 'PUT' | 'DELETE', url: string, body?: object) =>
      ok(strict.call(method, `/v1/admin${url}`, body, as(operator)));
    const denied = await session(moved, third);
    await act('POST', '/tokens/deny', { token: denied.token });
    const revoked = await session(moved, third);
    expect((await postForm(strict, '/oauth/revoke', { token: revoked.refresh }, admin)).statusCode).toBe(200);
    const userId = String(decoded(first.token).claims.sub);
    await act('POST', `/users/${userId}/revocations`);
    await act('PUT', `/users/${userId}/suspension`, { reason: 'spam' });
    await act('DELETE', `/users/${userId}/suspension`);
    await act('DELETE', `/clients/${machine.id}`);
    await act('POST', '/keys/rotation');
    await act('DELETE', `/keys/${(await strict.get('/.well-known/jwks.json')).json().keys[0].kid}`);
    const last = await session(moved, third);
    await ok(strict.call('DELETE', '/v1/me', { current_password: third }, as(last.token)));

    // What is recorded beside an answer comes when it comes.
    const seen = await vi.waitFor(async () => {
      const types = new Set((await db.auditEvent.findMany({ select: { type: true } })).map(({ type }) => type));
      const missing = AUDIT_TYPES.filter(
        (type) => !types.has(type) && ![...BY_COMMAND_LINE, ...OF_FAILED_MAILS].includes(type),
      );
      expect(missing).toEqual([]);
      return types;
    });
    expect([...seen].filter((type) => !(AUDIT_TYPES as readonly string[]).includes(type))).toEqual([]);
    const events = await db.auditEvent.findMany({ where: { userId } });
    for (const { actorType, ip, userAgent } of events)
      if (actorType === 'user') expect([ip, userAgent]).toEqual([null, null]);
      else expect(ip).toBe('127.0.0.1');
    expect(events.filter(({ type }) => type === 'user.profile_changed')).toMatchObject([
      { details: { fields: 'display_name locale' } },
    ]);
    const log = (await db.$queryRaw<{ row: string }[]>`SELECT e::text AS row FROM audit_events e`)
      .map(({ row }) => row)
      .join('\n');
    const hashes = await db.$queryRaw<{ hash: string }[]>`
      SELECT password_hash AS hash FROM users UNION ALL SELECT encode(secret_hash, 'hex') FROM clients`;
    for (const secret of [...secrets, ...hashes.map(({ hash }) => hash).filter((hash) => hash !== '!')])
      expect(log).not.toContain(secret);
    // Of other tokens what no id has by chance, as it has three letters or four: the beginnings of a JWT's parts, and a token's length.
    const beginnings = first.token.split('.').map((part) => part.slice(0, 10));
    for (const sign of ['$argon2', ...beginnings]) expect(log).not.toContain(sign);
    expect(log).not.toMatch(/lk[or]_[\w-]{60}/);
  } finally {
    await strict.close();
  }
});
