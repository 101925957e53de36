import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { temporaryFolder } from '@latchkey/dev-stack/processes';
import { startRedis } from '@latchkey/dev-stack/redis';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { tellAll } from '@latchkey/dev-stack/test-redis';
import { connectDatabase } from '@latchkey/shared/database';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { describe, expect, inject, onTestFinished, test, vi } from 'vitest';
import { createHighWaterStore } from '../src/store/high-water.ts';
import { createEpochs } from '../src/store/revocation-log.ts';
import type { TokenResponse } from './accounts.ts';
import { addClient, clientToken } from './clients.ts';
import { databaseProbe } from './mail-probe.ts';
import { newAddress, PASSWORD, startMailSide, startTestApp, type TestApp, testApp } from './test-app.ts';

const keys = redisKeys();
/** Milliseconds in which everything heals: a connection is made anew within one (redis-connections.ts), and the machine may be busy. */
const HEALS_WITHIN = { timeout: 20_000, interval: 50 };

/** A Redis of the test's own that can be set back to an older copy of itself, and a database beside it. */
async function ownStores() {
  const folder = temporaryFolder('epoch');
  const dir = join(folder, 'data');
  const settings = join(folder, 'more.conf');
  writeFileSync(settings, '');
  const server = await startRedis({ dir, args: ['--appendonly', 'no', '--include', settings] });
  const database = await createTestDatabase(inject('databaseUrl'));
  const probe = databaseProbe(database.url);
  const redis = connectRedis(server.url, 'queueWorker', () => undefined);
  onTestFinished(async () => {
    redis.disconnect();
    await probe.close();
    await server.stop();
    await database.drop();
  });
  const [dump, copy] = [join(dir, 'dump.rdb'), join(folder, 'older.rdb')];
  return {
    databaseUrl: database.url,
    redisUrl: server.url,
    redis,
    probe,
    /** Keeps a copy of what Redis holds now. */
    async backUp(): Promise<void> {
      await redis.save();
      copyFileSync(dump, copy);
    },
    /** Stops Redis and starts it on the same port with what it held then. @param more lines of its configuration */
    async restore(more = ''): Promise<void> {
      writeFileSync(settings, more);
      await server.stop();
      copyFileSync(copy, dump);
      await server.start();
    },
  };
}

type OwnStores = Awaited<ReturnType<typeof ownStores>>;

const apps = (stores: OwnStores): Promise<TestApp> => testApp({ ...stores, env: { RATE_LIMITS: 'off' } });

async function account(api: TestApp, { probe }: Pick<OwnStores, 'probe'>): Promise<{ email: string; id: string }> {
  const email = newAddress('epoch');
  await api.register(email);
  // How it was activated is not what is looked at here.
  const [user] = await probe.rows<{ id: string }>(`UPDATE users SET status = 'active' WHERE email = $1 RETURNING id`, [
    email,
  ]);
  return { email, id: user?.id ?? '' };
}

async function login(api: TestApp, email: string, token_format: 'jwt' | 'opaque' = 'jwt'): Promise<TokenResponse> {
  const response = await api.post('/v1/tokens', { email, password: PASSWORD, token_format });
  if (response.statusCode !== 200) throw new Error(`login answered ${response.statusCode} ${response.body}`);
  return response.json();
}

const verify = async (api: TestApp, token: string) => (await api.get('/v1/verify', token)).statusCode;
const refresh = async (api: TestApp, refresh_token: string) =>
  (await api.post('/v1/tokens/refresh', { refresh_token })).statusCode;

/** One way to get in with something, by name. */
type Attempt = readonly [name: string, attempt: (api: TestApp) => Promise<number>];

/** Tokens of every kind, good. */
async function devices(api: TestApp, stores: OwnStores) {
  const { email } = await account(api, stores);
  const [session, opaque, denied] = [
    await login(api, email),
    await login(api, email, 'opaque'),
    await login(api, email),
  ];
  const everywhere = await login(api, (await account(api, stores)).email);
  const client = await clientToken(api, await addClient(stores.databaseUrl, 'admin'));
  const attempts: Attempt[] = [
    ['access token of an ended session', (on) => verify(on, session.access_token)],
    ['refresh token of an ended session', (on) => refresh(on, session.refresh_token)],
    ['opaque token', (on) => verify(on, opaque.access_token)],
    ['denied access token', (on) => verify(on, denied.access_token)],
    ['refresh token of a denied access token', (on) => refresh(on, denied.refresh_token)],
    ['access token before a cut-off', (on) => verify(on, everywhere.access_token)],
    ['refresh token before a cut-off', (on) => refresh(on, everywhere.refresh_token)],
  ];
  return {
    email,
    attempts,
    async revoke(): Promise<void> {
      const answers = [
        await api.delete('/v1/sessions/current', session.access_token),
        await api.delete('/v1/sessions/current', opaque.access_token),
        await api.call(
          'POST',
          '/v1/admin/tokens/deny',
          { token: denied.access_token },
          { authorization: `Bearer ${client}` },
        ),
        await api.delete('/v1/sessions', everywhere.access_token),
      ];
      expect(answers.map(({ statusCode }) => statusCode)).toEqual([204, 204, 204, 204]);
    },
  };
}

/** Tries each attempt on each instance, again and again. @returns what ends it, and tells how often each was answered how. */
function hammer(instances: TestApp[], attempts: readonly Attempt[]) {
  let going = true;
  const seen = new Map<string, Record<number, number>>(attempts.map(([name]) => [name, {}]));
  const loops = instances.flatMap((api) =>
    attempts.map(async ([name, attempt]) => {
      const answers = seen.get(name) ?? {};
      while (going) {
        const status = await attempt(api);
        answers[status] = (answers[status] ?? 0) + 1;
        await nextTurn();
      }
    }),
  );
  const total = () => [...seen.values()].flatMap((answers) => Object.values(answers)).reduce((a, b) => a + b, 0);
  return {
    seen,
    /** Resolves once each attempt was made so many times more on the average. */
    async more(times: number): Promise<void> {
      const until = total() + times * loops.length;
      await vi.waitFor(() => expect(total()).toBeGreaterThan(until), HEALS_WITHIN);
    },
    async end(): Promise<Map<string, Record<number, number>>> {
      going = false;
      await Promise.all(loops);
      return seen;
    },
  };
}

function expectNeverAccepted(seen: Map<string, Record<number, number>>): void {
  for (const [name, answers] of seen) {
    expect(
      Object.keys(answers).filter((status) => !['401', '503'].includes(status)),
      name,
    ).toEqual([]);
    expect(answers[401], name).toBeGreaterThan(0);
  }
}

/** Empties Redis. @returns once somebody has noticed. */
async function empty(redis: ReturnType<typeof connectRedis>): Promise<void> {
  const before = await redis.hget(keys.epoch, 'id');
  await tellAll(redis, (server) => server.flushall());
  await vi.waitFor(async () => {
    const id = await redis.hget(keys.epoch, 'id');
    expect(id).not.toBeNull();
    expect(id).not.toBe(before);
  }, HEALS_WITHIN);
}

/** Resolves once a login gives a token that is good. */
async function loginsWork(api: TestApp, email: string): Promise<TokenResponse> {
  return vi.waitFor(async () => {
    const tokens = await login(api, email);
    expect(await verify(api, tokens.access_token)).toBe(200);
    return tokens;
  }, HEALS_WITHIN);
}

test('Redis emptied under load: nothing revoked is accepted before or after, and logins work again by themselves', async () => {
  const stores = await ownStores();
  const instances = [await apps(stores), await apps(stores)];
  const [api] = instances;
  if (!api) throw new Error('no instance');
  const { email, attempts, revoke } = await devices(api, stores);
  for (const [name, attempt] of attempts) expect(await attempt(api), name).toBe(200);
  const good = await login(api, email);
  await revoke();
  for (const instance of instances)
    for (const [name, attempt] of attempts)
      await vi.waitFor(async () => expect(await attempt(instance), name).toBe(401), HEALS_WITHIN);

  const revoked = hammer(instances, attempts);
  const bystander = hammer(instances, [['good', (on) => verify(on, good.access_token)]]);
  await revoked.more(20);
  expect(Object.keys(bystander.seen.get('good') ?? {})).toEqual(['200']);
  await empty(stores.redis);
  const again = await Promise.all(instances.map((instance) => loginsWork(instance, email)));
  await revoked.more(20);
  expectNeverAccepted(await revoked.end());
  await bystander.end();
  // What can't be told from a revoked one is refused with it.
  expect(await verify(api, good.access_token)).toBe(401);
  // And what is revoked from here on is revoked.
  for (const tokens of again) {
    expect((await api.delete('/v1/sessions/current', tokens.access_token)).statusCode).toBe(204);
    expect(await verify(api, tokens.access_token)).toBe(401);
  }
});

describe('Redis restored from an older copy', () => {
  test('gives nothing back that was revoked since, not while an app that ran through it has not noticed yet, nor after', async () => {
    const stores = await ownStores();
    const api = await apps(stores);
    const { email, attempts, revoke } = await devices(api, stores);
    await stores.backUp();
    await revoke();
    const revoked = hammer([api], attempts);
    await revoked.more(5);
    // The connection that asks for sessions is there again, and what reads the log is kept from looking at which Redis this is.
    await stores.restore('user default on nopass ~* &* +@all -xinfo\n');
    await vi.waitFor(async () => {
      const { json } = await api.app.inject('/readyz');
      expect(json().checks.redis.status).toBe('up');
    }, HEALS_WITHIN);
    await revoked.more(20);
    await tellAll(stores.redis, (server) => server.acl('SETUSER', 'default', '+xinfo'));
    await loginsWork(api, email);
    await revoked.more(20);
    expectNeverAccepted(await revoked.end());
  });

  test('gives back no session to the list, to what counts as first, or to the limit', async () => {
    const stores = await ownStores();
    const api = await testApp({ ...stores, env: { RATE_LIMITS: 'off', MAX_SESSIONS_PER_USER: '2' } });
    const { email } = await account(api, stores);
    await login(api, email);
    await login(api, email, 'opaque');
    await stores.backUp();
    // Something has to have happened since, or it is no older copy.
    await api.delete('/v1/sessions/current', (await login(api, email)).access_token);
    const before = await stores.redis.hget(keys.epoch, 'id');
    await stores.restore();
    await vi.waitFor(async () => expect(await stores.redis.hget(keys.epoch, 'id')).not.toBe(before), HEALS_WITHIN);
    const first = await loginsWork(api, email);
    expect(first.first_session).toBe(true);
    const second = await login(api, email);
    expect(second.first_session).toBe(false);
    const listed = (await api.get('/v1/sessions', second.access_token)).json().sessions as { id: string }[];
    expect(listed.map(({ id }) => id).sort()).toEqual([first.session.id, second.session.id].sort());
    expect(await verify(api, first.access_token)).toBe(200);
  });

  test('gives nothing back to an app that starts afterwards: PostgreSQL knows how far the log went', async () => {
    const stores = await ownStores();
    const before = await startTestApp(stores);
    const { email, attempts, revoke } = await devices(before, stores);
    await stores.backUp();
    await revoke();
    const ended = await stores.redis.xrevrange(keys.revocations, '+', '-', 'COUNT', 1);
    await vi.waitFor(async () => {
      const marks = await stores.probe.rows('SELECT position FROM revocation_high_water');
      expect(marks).toEqual([{ position: ended[0]?.[0] }]);
    }, HEALS_WITHIN);
    await before.close();
    await stores.restore();
    const after = await apps(stores);
    for (const [name, attempt] of attempts) expect(await attempt(after), name).toBe(401);
    await loginsWork(after, email);
    for (const [name, attempt] of attempts) expect(await attempt(after), name).toBe(401);
  });
});

test('Redis emptied, and then restored from a copy from before that: nothing revoked is given back, to an app that ran through it or to one that starts afterwards', async () => {
  const stores = await ownStores();
  const before = await startTestApp(stores);
  const { email, attempts, revoke } = await devices(before, stores);
  await stores.backUp();
  await revoke();
  await empty(stores.redis);
  await loginsWork(before, email);
  await before.close();
  // It has read nothing of what was revoked.
  const ran = await startTestApp(stores);
  await stores.restore();
  await loginsWork(ran, email);
  for (const [name, attempt] of attempts) expect(await attempt(ran), name).toBe(401);
  // Nor is there an entry by whose position PostgreSQL could tell.
  expect(await stores.redis.exists(keys.revocations)).toBe(0);
  await ran.close();
  await stores.restore();
  const after = await apps(stores);
  for (const [name, attempt] of attempts) expect(await attempt(after), name).toBe(401);
  await loginsWork(after, email);
});

test('the mark in PostgreSQL never falls, and keeps the latest birth whatever a release before writes beside, which knows of none', async () => {
  const database = await createTestDatabase(inject('databaseUrl'));
  const db = connectDatabase(database.url, () => undefined);
  onTestFinished(async () => {
    await db.$disconnect();
    await database.drop();
  });
  const marks = createHighWaterStore(db);
  const raise = async (epochId: string, born: number, position: string) => {
    await marks.raise({ epochId, born, position });
    return marks.read();
  };
  const raiseBefore = async (epochId: string, position: string) => {
    await db.$executeRaw`
      INSERT INTO revocation_high_water (id, epoch_id, position) VALUES (1, ${epochId}, ${position})
      ON CONFLICT (id) DO UPDATE SET epoch_id = excluded.epoch_id, position = excluded.position
      WHERE revocation_high_water.epoch_id <> excluded.epoch_id
        OR string_to_array(revocation_high_water.position, '-')::bigint[] < string_to_array(excluded.position, '-')::bigint[]`;
    return marks.read();
  };
  const [first, second] = [1_795_000_000_000_001, 1_795_000_000_000_002];
  expect(await raiseBefore('a', '5-0')).toEqual({ epochId: 'a', born: 0, position: '5-0' });
  expect(await raise('a', first, '4-9')).toEqual({ epochId: 'a', born: 0, position: '5-0' });
  expect(await raise('a', first, '5-0')).toEqual({ epochId: 'a', born: first, position: '5-0' });
  expect(await raise('a', first, '10-0')).toEqual({ epochId: 'a', born: first, position: '10-0' });
  expect(await raise('a', first, '9-0')).toEqual({ epochId: 'a', born: first, position: '10-0' });
  expect(await raise('b', second, '0-0')).toEqual({ epochId: 'b', born: second, position: '0-0' });
  // Who has not noticed yet; and who goes back.
  expect(await raise('a', first, '99-0')).toEqual({ epochId: 'b', born: second, position: '0-0' });
  expect(await raiseBefore('a', '99-0')).toEqual({ epochId: 'a', born: second, position: '99-0' });
  expect(await raise('b', second, '1-0')).toEqual({ epochId: 'b', born: second, position: '1-0' });
});

test('a suspension and a cut-off to come outlive Redis: no login, no activation, until they end', async () => {
  const side = await startMailSide();
  onTestFinished(() => side.stop());
  const worker = await side.startWorker();
  onTestFinished(() => worker.stop().then(() => undefined));
  const probe = databaseProbe(side.databaseUrl);
  onTestFinished(() => probe.close());
  const redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
  onTestFinished(() => redis.disconnect());
  const api = await testApp({ ...side, env: { RATE_LIMITS: 'off' } });
  const client = await addClient(side.databaseUrl, 'admin');
  const act = async (method: 'POST' | 'PUT' | 'DELETE', url: string, payload?: object) => {
    const authorization = `Bearer ${await clientToken(api, client)}`;
    const { statusCode, body } = await api.call(method, `/v1/admin/users/${url}`, payload, { authorization });
    if (statusCode >= 300) throw new Error(`${method} ${url} answered ${statusCode} ${body}`);
  };

  const [suspended, closed] = [await account(api, { probe }), await account(api, { probe })];
  const [pending, waiting] = [newAddress('pending'), newAddress('waiting')];
  for (const email of [pending, waiting]) {
    await api.register(email);
    await side.activationKey(email);
  }
  const [{ id: pendingId = '' } = {}] = await probe.users(pending);
  const [{ id: waitingId = '' } = {}] = await probe.users(waiting);
  const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
  await act('PUT', `${suspended.id}/suspension`);
  await act('PUT', `${pendingId}/suspension`, { until: tomorrow });
  for (const id of [closed.id, waitingId]) await act('POST', `${id}/revocations`, { issued_before: tomorrow });

  await empty(redis);
  const bystander = await account(api, { probe });
  await loginsWork(api, bystander.email);
  expect((await api.login(suspended.email)).json()).toMatchObject({ status: 403, code: 'account_suspended' });
  expect((await api.login(closed.email)).json()).toMatchObject({ code: 'account_suspended', until: tomorrow });
  // The mailed key went with Redis; another one opens no more than it would have.
  const keyOf = async (email: string) => {
    await api.post('/v1/activations', { email });
    return side.activationKey(email, 2);
  };
  const [key, closedKey] = [await keyOf(pending), await keyOf(waiting)];
  for (const one of [key, closedKey]) expect((await api.post(`/v1/activations/${one}`)).statusCode).toBe(404);
  for (const email of [pending, waiting]) expect(await probe.users(email)).toMatchObject([{ status: 'pending' }]);

  await act('DELETE', `${suspended.id}/suspension`);
  await act('DELETE', `${pendingId}/suspension`);
  await loginsWork(api, suspended.email);
  expect((await api.post(`/v1/activations/${key}`)).statusCode).toBe(200);
  // The instant comes.
  await probe.rows('UPDATE users SET login_closed_until = now() WHERE id = $1::uuid', [waitingId]);
  expect((await api.post(`/v1/activations/${closedKey}`)).statusCode).toBe(200);
});

test('an epoch ends where something is lost, and nowhere else', async () => {
  const { redis } = await ownStores();
  const epochs = createEpochs(redis, keys);
  const now = Math.floor(Date.now() / 1000);
  const born = async (id: string) => {
    await redis.del(keys.epoch, keys.revocations);
    await redis.hset(keys.epoch, { id, born: 1 });
    return { id, born: 1 };
  };
  const write = (id: string, until: number) => redis.xadd(keys.revocations, id, 'sid', `${until} 0 session`);

  let epoch = await born('a');
  await write('1000-5', now + 600);
  expect(await epochs.begin(epoch, 0, { id: '1000-5', until: now + 600 })).toBe(false);
  expect(await redis.hget(keys.epoch, 'id')).toBe('a');
  // Only what was written later is missing.
  expect(await epochs.begin(epoch, 0, { id: '1000-6', until: now + 600 })).toBe(true);
  expect(await epochs.begin(epoch, 0, { id: '1000-6', until: now + 600 })).toBe(false);

  // Written to since, but not what is known; unless that has stopped to matter by then.
  epoch = await born('b');
  await write('9000-0', now + 600);
  expect(await epochs.begin(epoch, 0, { id: '1000-5', until: 9 })).toBe(false);
  expect(await epochs.begin(epoch, 0, { id: '1000-5', until: 10 })).toBe(true);

  // Of a log that never was, and of an epoch that somebody took away.
  epoch = await born('c');
  expect(await epochs.begin(epoch, 0, { id: '1000-5', until: 9 })).toBe(true);
  epoch = await born('d');
  await write('1000-5', now + 600);
  await redis.del(keys.epoch);
  expect(await epochs.begin(undefined, 0, { id: '1000-5', until: now + 600 })).toBe(true);
});
