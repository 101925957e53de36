import { hash } from 'node:crypto';
import { forget, keysOf } from '@latchkey/dev-stack/test-redis';
import { connectRedis, type RedisConnection } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import type { InjectOptions } from 'fastify';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { createKeyring } from '../src/domain/keyring.ts';
import { createRateLimits, limits } from '../src/rate-limits.ts';
import { expectProblem } from './expect-problem.ts';
import { type DatabaseProbe, databaseProbe, keysMailed } from './mail-probe.ts';
import { MASTER_KEY, newAddress, PASSWORD, startMailSide, startTestApp, type TestApp } from './test-app.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
/** Two instances of the app on the same stores, and one that limits nothing. */
let api: TestApp;
let second: TestApp;
let unlimited: TestApp;
let worker: Awaited<ReturnType<typeof side.startWorker>>;
let database: DatabaseProbe;
let redis: RedisConnection;

beforeAll(async () => {
  side = await startMailSide();
  [api, second, unlimited, worker] = await Promise.all([
    startTestApp(side),
    startTestApp(side),
    startTestApp({ ...side, env: { RATE_LIMITS: 'off' } }),
    side.startWorker(),
  ]);
  database = databaseProbe(side.databaseUrl);
  redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
});
afterAll(async () => {
  redis.disconnect();
  await database.close();
  await Promise.all([api.close(), second.close(), unlimited.close(), worker.stop()]);
  await side.stop();
});

const countedKeys = () => keysOf(redis, redisKeys().rateLimit('*'));

// Every request of this file comes from one address, more of them than it may send in one window.
beforeEach(async () => {
  const counted = await countedKeys();
  if (counted.length > 0) await forget(redis, counted);
});

const UNKNOWN = { status: 404, code: 'activation_key_unknown' };
const EXPIRED = { status: 410, code: 'activation_key_expired' };
const USED = { status: 410, code: 'activation_key_used' };
const LIMITED = { status: 429, code: 'rate_limited' };

const urlOf = (key: string) => `/v1/activations/${key}`;
const inspect = (key: string) => api.get(urlOf(key));
const activate = (key: string) => api.post(urlOf(key));
const renew = (key: string) => api.post(`${urlOf(key)}/renewal`);
const resend = (email: string, by = api) => by.post('/v1/activations', { email });

/** A pending registration and its key. */
async function registered(email = newAddress()) {
  expect((await unlimited.register(email)).statusCode).toBe(202);
  return { email, key: await side.activationKey(email) };
}

const recordName = (key: string) => redisKeys().activationKey(hash('sha256', key, 'base64url'));

/** Ages a key: of its time to be renewed this many milliseconds are left, and none to activate. */
async function expire(key: string, left?: number): Promise<void> {
  const { renewal_ms } = JSON.parse((await redis.get(recordName(key))) ?? '');
  expect(await redis.pexpire(recordName(key), left ?? renewal_ms)).toBe(1);
}

describe('a key is spent once', () => {
  test('of 100 POSTs at the same moment, to two instances, one gets 200 and the rest 410', async () => {
    const { email, key } = await registered();
    const outcomes = await Promise.all(
      Array.from({ length: 100 }, (_, index) => (index % 2 === 0 ? api : second).post(urlOf(key))),
    );
    const [winner, ...others] = outcomes.filter(({ statusCode }) => statusCode === 200);
    expect(others).toEqual([]);
    expect(winner?.json()).toEqual({ user: { id: expect.any(String), email, status: 'active' } });
    for (const outcome of outcomes) if (outcome !== winner) expectProblem(outcome, USED);
    expect((await database.users(email)).map(({ status }) => status)).toEqual(['active']);
  });

  test('a used key is 410 to look at, to use and to renew, and mails nothing more', async () => {
    const { email, key } = await registered();
    expect((await activate(key)).statusCode).toBe(200);
    expectProblem(await inspect(key), USED);
    expectProblem(await activate(key), USED);
    expectProblem(await renew(key), USED);
    expect((await api.get(`/activate/${key}`)).statusCode).toBe(410);
    await database.settled();
    expect(side.mail.mails(email)).toHaveLength(1);
  });

  test('a key that never was, or was mangled, is 404 to look at, to use and to renew', async () => {
    const { key } = await registered();
    const mangled = [key.toLowerCase(), key.slice(1), `${key}=`, `${key}A`, `%20${key}`, [...key].reverse().join('')];
    for (const wrong of ['A'.repeat(32), ...mangled.filter((other) => other !== key)]) {
      expectProblem(await inspect(wrong), UNKNOWN);
      expectProblem(await activate(wrong), UNKNOWN);
      expectProblem(await renew(wrong), UNKNOWN);
    }
    expect((await activate(key)).statusCode).toBe(200);
  });
});

describe('looking changes nothing', () => {
  test.each<InjectOptions['method']>(['GET', 'HEAD', 'OPTIONS'])(
    '%s of the API and of the page, many times, leaves key, account and outbox as they were',
    async (method) => {
      const { email, key } = await registered();
      await database.settled();
      const state = async () => ({
        record: await redis.get(recordName(key)),
        users: await database.rows('SELECT * FROM users WHERE email = $1', [email]),
        owed: await database.owed(),
      });
      const before = await state();
      const life = await redis.pttl(recordName(key));
      for (const url of [urlOf(key), `${urlOf(key)}/renewal`, `/activate/${key}`, `/activate/${key}?action=activate`])
        for (let times = 0; times < 3; times += 1) {
          const { statusCode } = await api.call(method, url);
          expect([200, 404, 405]).toContain(statusCode);
        }
      expect(await state()).toEqual(before);
      expect(await redis.pttl(recordName(key))).toBeLessThanOrEqual(life);
      expect((await activate(key)).statusCode).toBe(200);
    },
  );

  test('the answer says until when the key activates: ACTIVATION_KEY_TTL from the mail', async () => {
    const before = Date.now();
    const { key } = await registered();
    const after = Date.now();
    const response = await inspect(key);
    expect(response.statusCode).toBe(200);
    expect(response.headers['cache-control']).toBe('no-store');
    expect(response.json()).toEqual({ status: 'pending', expires_at: expect.any(String) });
    const expiresAt = Date.parse(response.json().expires_at);
    expect(expiresAt).toBeGreaterThanOrEqual(before + 900_000);
    // The two apps and Redis each round to milliseconds.
    expect(expiresAt).toBeLessThanOrEqual(after + 900_000 + 5);
    for (let times = 0; times < 20; times += 1) expect((await inspect(key)).json()).toEqual(response.json());
  });
});

describe('a key that has expired', () => {
  test('is 410 to look at and to use, and activates nobody', async () => {
    const { email, key } = await registered();
    await expire(key);
    expectProblem(await inspect(key), EXPIRED);
    expectProblem(await activate(key), EXPIRED);
    expect((await api.get(`/activate/${key}`)).statusCode).toBe(410);
    expect((await database.users(email)).map(({ status }) => status)).toEqual(['pending']);
    expectProblem(await api.login(email), { status: 403, code: 'account_not_activated' });
  });

  test('is renewed: a fresh key goes to the address of the registration and works, the old one is dead', async () => {
    const { email, key } = await registered();
    await expire(key, 60_000);
    const renewal = await renew(key);
    expect([renewal.statusCode, renewal.json()]).toEqual([202, { status: 'activation_required' }]);
    const fresh = await side.activationKey(email, 2);
    expect(fresh).not.toBe(key);
    expect(side.mail.mails().at(-1)?.to).toEqual([email]);
    expectProblem(await inspect(key), UNKNOWN);
    expectProblem(await activate(key), UNKNOWN);
    expectProblem(await renew(key), UNKNOWN);
    expect((await inspect(fresh)).statusCode).toBe(200);
    expect((await activate(fresh)).statusCode).toBe(200);
    expect((await api.login(email)).statusCode).toBe(200);
  });

  test('and cannot be renewed any more is unknown', async () => {
    const { key } = await registered();
    await redis.del(recordName(key));
    expectProblem(await inspect(key), UNKNOWN);
    expectProblem(await activate(key), UNKNOWN);
    expectProblem(await renew(key), UNKNOWN);
  });
});

describe('a newer mail', () => {
  test('replaces a live key by renewal', async () => {
    const { email, key } = await registered();
    expect((await renew(key)).statusCode).toBe(202);
    const fresh = await side.activationKey(email, 2);
    expectProblem(await activate(key), UNKNOWN);
    expect((await activate(fresh)).statusCode).toBe(200);
  });

  test('asked for by address kills every older key, from the answer on', async () => {
    const { email } = await registered();
    for (let mails = 2; mails <= 4; mails += 1) {
      expect((await resend(email)).statusCode).toBe(202);
      for (const older of keysMailed(side.mail, email).slice(0, mails - 1))
        expectProblem(await activate(older), UNKNOWN);
      await side.mail.waitFor(email, { count: mails });
    }
    const keys = keysMailed(side.mail, email);
    expect(new Set(keys).size).toBe(4);
    for (const older of keys.slice(0, 3)) expectProblem(await activate(older), UNKNOWN);
    expect((await activate(keys[3] ?? '')).statusCode).toBe(200);
  });

  test.each([
    ['live', false],
    ['expired', true],
  ])('is sent once for 50 renewals of one %s key at the same moment', async (_what, expired) => {
    const { email, key } = await registered();
    if (expired) await expire(key);
    const outcomes = await Promise.all(Array.from({ length: 50 }, () => unlimited.post(`${urlOf(key)}/renewal`)));
    expect(outcomes.filter(({ statusCode }) => statusCode === 202)).toHaveLength(1);
    for (const outcome of outcomes) if (outcome.statusCode !== 202) expectProblem(outcome, UNKNOWN);
    await database.settled();
    expect(side.mail.mails(email)).toHaveLength(2);
    expect((await activate(keysMailed(side.mail, email)[1] ?? '')).statusCode).toBe(200);
  });
});

test('activation grants no session: no cookie, no token, and a login of its own is what it takes', async () => {
  const { email, key } = await registered();
  expectProblem(await api.login(email), { status: 403, code: 'account_not_activated' });
  const response = await activate(key);
  expect(response.json()).toEqual({ user: { id: expect.any(String), email, status: 'active' } });
  expect(response.headers).not.toHaveProperty('set-cookie');
  expect(response.headers).not.toHaveProperty('authorization');
  const { id } = response.json().user;
  expect(await keysOf(redis, `${redisKeys().sessionPrefix(id)}*`)).toEqual([]);
  const login = await api.login(email);
  expect([login.statusCode, login.json().first_session]).toEqual([200, true]);
});

test('a key is in its mail and nowhere else: not in Redis, PostgreSQL or a log of either app', async () => {
  const { email, key } = await registered();
  await inspect(key);
  await api.get(`/activate/${key}`);
  await activate(key);
  await activate(key);
  const everywhere = JSON.stringify([
    await redisContent(),
    await database.rows('SELECT * FROM users'),
    api.logs,
    worker.output,
  ]);
  expect(everywhere).toContain(hash('sha256', key, 'base64url'));
  expect(everywhere).toContain(email);
  expect(everywhere).not.toContain(key);
});

/** Every key of Redis and what it holds. */
async function redisContent(): Promise<unknown[]> {
  const content = async (name: string): Promise<unknown> => {
    const type = await redis.type(name);
    if (type === 'string') return redis.get(name);
    if (type === 'hash') return redis.hgetall(name);
    if (type === 'set') return redis.smembers(name);
    if (type === 'zset') return redis.zrange(name, '0', '-1', 'WITHSCORES');
    if (type === 'list') return redis.lrange(name, 0, -1);
    return redis.xrange(name, '-', '+');
  };
  return Promise.all((await keysOf(redis, '*')).map(async (name) => [name, await content(name)]));
}

describe('limits', () => {
  const perRecipient = limits.mailPerRecipient.points;
  const perIp = limits.mailedKeyPerIp.points;

  test.each(['pending', 'unknown'])('refuse the 11th mail to one address (%s) with Retry-After', async (kind) => {
    const email = kind === 'pending' ? (await registered()).email : newAddress();
    for (let mails = 0; mails < perRecipient; mails += 1) expect((await resend(email)).statusCode).toBe(202);
    const refused = await resend(email.toUpperCase());
    expectProblem(refused, LIMITED);
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(limits.mailPerRecipient.window - 60);
    expectProblem(await api.register(email), LIMITED);
    // Somebody else's mailbox is not the worse for it.
    expect((await resend(newAddress())).statusCode).toBe(202);
  });

  test('count registration, resend and renewal of one address together, over two instances', async () => {
    const email = newAddress();
    expect((await api.register(email)).statusCode).toBe(202);
    const key = await side.activationKey(email);
    for (let mails = 2; mails <= perRecipient; mails += 1) {
      expect((await resend(email, mails % 2 === 0 ? api : second)).statusCode).toBe(202);
      // A mail that is replaced before it was sent is not sent at all.
      await side.mail.waitFor(email, { count: mails });
    }
    const newest = keysMailed(side.mail, email).at(-1) ?? '';
    expectProblem(await second.post(`${urlOf(newest)}/renewal`), LIMITED);
    expectProblem(await second.register(email), LIMITED);
    expectProblem(await api.register(email), LIMITED);
    // What is left alone is activating.
    expectProblem(await second.post(urlOf(key)), UNKNOWN);
    expect((await second.post(urlOf(newest))).statusCode).toBe(200);
  });

  test('count what one IP address asks about keys, over two instances, and leave others alone', async () => {
    const ask = (by: TestApp, remoteAddress: string) =>
      by.app.inject({ method: 'GET', url: urlOf('A'.repeat(32)), remoteAddress });
    for (let asked = 0; asked < perIp; asked += 1)
      expectProblem(await ask(asked % 2 === 0 ? api : second, '192.0.2.7'), UNKNOWN);
    expectProblem(await ask(api, '192.0.2.7'), LIMITED);
    expectProblem(await ask(second, '192.0.2.7'), LIMITED);
    expectProblem(await ask(api, '192.0.2.8'), UNKNOWN);
    // An address nobody vouches for does not count.
    const lie = { method: 'GET', url: urlOf('A'.repeat(32)), remoteAddress: '192.0.2.7' } as const;
    expectProblem(await api.app.inject({ ...lie, headers: { 'x-forwarded-for': '192.0.2.9' } }), LIMITED);
  });

  test('keep no address in Redis that could be read, and forget with the window', async () => {
    const email = newAddress('readable');
    await api.register(email);
    await resend(email);
    await api.login(email, PASSWORD);
    const counted = await countedKeys();
    expect(counted.length).toBeGreaterThanOrEqual(5);
    for (const name of counted) {
      expect(name).toMatch(/^latchkey:rate-limit:[A-Za-z]+:[A-Za-z0-9_-]{43}$/);
      const limit = Object.entries(limits).find(([known]) => name.startsWith(`${redisKeys().rateLimit(known)}:`))?.[1];
      expect(await redis.ttl(name)).toBeGreaterThan(0);
      expect(await redis.ttl(name)).toBeLessThanOrEqual(limit?.window ?? 0);
      expect(await redis.get(name)).toMatch(/^\d+$/);
    }
    // Nor one that could be found by trying: there are no more than 2^32 IPv4 addresses.
    for (const subject of [email, '127.0.0.1'])
      expect(counted.join('\n')).not.toContain(hash('sha256', subject, 'base64url'));
  });

  test('a login that succeeds starts anew', async () => {
    const { email, key } = await registered();
    await activate(key);
    const elsewhere = createRateLimits(redis, redisKeys(), 'on', createKeyring(MASTER_KEY).rateLimitMac);
    // All tries but the last one, counted as the app counts them and without the hashing.
    async function wrong(times: number): Promise<void> {
      for (let tries = 1; tries < times; tries += 1) await elsewhere.consume('loginPerAccount', email);
      expect((await api.login(email, 'not the right one')).statusCode).toBe(401);
    }
    for (let round = 0; round < 2; round += 1) {
      await wrong(limits.loginPerAccount.points - 1);
      expect((await api.login(email)).statusCode).toBe(200);
    }
    await wrong(limits.loginPerAccount.points);
    expectProblem(await api.login(email), LIMITED);
    await vi.waitFor(async () => expectProblem(await second.login(email), LIMITED));
  });
});
