import { keysOf, tellAll } from '@latchkey/dev-stack/test-redis';
import { redisKeys, userTag } from '@latchkey/shared/redis-keys';
import { hashSync } from '@node-rs/argon2';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { createKeyring } from '../src/domain/keyring.ts';
import { createRateLimits, limits } from '../src/rate-limits.ts';
import { unpackDevice } from '../src/store/devices.ts';
import { activeUser, beforeCommit, duringChange, logIn, registeredUser, type TokenResponse } from './accounts.ts';
import { expectProblem } from './expect-problem.ts';
import { MASTER_KEY, newAddress, PASSWORD, type TestApp } from './test-app.ts';
import { forgetLimits, startTwoApps, type TwoApps } from './two-apps.ts';

let apps: TwoApps;
let side: TwoApps['side'];
let api: TwoApps['api'];
let second: TwoApps['second'];
let worker: TwoApps['worker'];
let database: TwoApps['database'];
let redis: TwoApps['redis'];

beforeAll(async () => {
  apps = await startTwoApps();
  ({ side, api, second, worker, database, redis } = apps);
});
afterAll(() => apps.stop());
beforeEach(() => forgetLimits(apps.redis));

const NEW_PASSWORD = 'seven purple teapots sing';
const WRONG_PASSWORD = { status: 401, code: 'invalid_credentials', pointer: '/current_password' };

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const put = (url: string, token: string, body: object, by = api) => by.call('PUT', url, body, bearer(token));
const changePassword = (token: string, current = PASSWORD, wanted = NEW_PASSWORD, by = api) =>
  put('/v1/me/password', token, { current_password: current, new_password: wanted }, by);
const deleteMe = (token: string, current = PASSWORD) =>
  api.call('DELETE', '/v1/me', { current_password: current }, bearer(token));
const audited = async (userId: string) =>
  (
    await database.rows<{ type: string; ip: string | null; user_agent: string | null }>(
      'SELECT type, ip, user_agent FROM audit_events WHERE user_id = $1 ORDER BY id',
      [userId],
    )
  ).map((event) => event);

/** What a key of Redis holds, by its type; a device as it was before it was packed. */
const heldIn: Record<string, (key: string) => Promise<unknown>> = {
  string: (key) => redis.get(key),
  hash: async (key) => {
    const device = await redis.hgetBuffer(key, 'device');
    return [await redis.hgetall(key), device && unpackDevice(device)];
  },
  list: (key) => redis.lrange(key, 0, -1),
  set: (key) => redis.smembers(key),
  zset: (key) => redis.zrange(key, '0', '-1'),
  stream: (key) => redis.xrange(key, '-', '+'),
};

/** Every key of Redis with what it holds, as text. */
async function dumpRedis(): Promise<string> {
  const held = async (key: string) => `${key} ${JSON.stringify(await heldIn[await redis.type(key)]?.(key))}`;
  return (await Promise.all((await keysOf(redis, '*')).map(held))).join('\n');
}

const liveSessions = async (token: string) => (await api.get('/v1/sessions', token)).json().sessions.length;

/** A change that finds Redis full, once it has come as far as the user's row: it answers and takes no more writes. */
async function whenRedisIsFull<T>(email: string, change: () => Promise<T>): Promise<T> {
  try {
    return await duringChange(database, email, change, async () => {
      await tellAll(redis, (server) => server.config('SET', 'maxmemory', '1'));
    });
  } finally {
    await tellAll(redis, (server) => server.config('SET', 'maxmemory', '0'));
  }
}

describe('a changed password', () => {
  test('logs in, the old one does not; this session stays, every other one ends on every instance', async () => {
    const email = await activeUser(api);
    const [here, there] = [await logIn(api, email, 'here'), await logIn(second, email, 'there')];
    const response = await changePassword(here.access_token);
    expect([response.statusCode, response.body]).toEqual([204, '']);
    expect((await api.login(email)).statusCode).toBe(401);
    expect((await api.login(email, NEW_PASSWORD)).statusCode).toBe(200);
    expect((await api.get('/v1/me', here.access_token)).statusCode).toBe(200);
    expectProblem(await api.get('/v1/me', there.access_token), { status: 401, code: 'session_revoked' });
    await vi.waitFor(async () => expect((await second.get('/v1/me', there.access_token)).statusCode).toBe(401));
    expectProblem(await api.post('/v1/tokens/refresh', { refresh_token: there.refresh_token }), {
      status: 401,
      code: 'session_revoked',
    });
    expect((await api.post('/v1/tokens/refresh', { refresh_token: here.refresh_token })).statusCode).toBe(200);
  });

  test('is told by mail and recorded', async () => {
    const email = await activeUser(api);
    const { access_token: token } = await logIn(api, email);
    expect((await changePassword(token)).statusCode).toBe(204);
    const mail = await side.mail.waitFor(email, { subject: /Your password .* was changed/ });
    expect(mail.text).not.toMatch(/https?:/);
    const [user] = await database.users(email);
    expect((await audited(String(user?.id))).map(({ type }) => type)).toContain('user.password_changed');
  });

  test('needs the present one, and a wrong one changes nothing', async () => {
    const email = await activeUser(api);
    const [here, there] = [await logIn(api, email), await logIn(api, email)];
    expectProblem(await changePassword(here.access_token, 'not the password'), WRONG_PASSWORD);
    expect((await api.get('/v1/me', there.access_token)).statusCode).toBe(200);
    expect((await api.login(email)).statusCode).toBe(200);
    expect((await api.login(email, NEW_PASSWORD)).statusCode).toBe(401);
  });

  test('must not be easy to guess, and the field is named', async () => {
    const email = await activeUser(api);
    const { access_token: token } = await logIn(api, email);
    for (const weak of ['password1', email])
      expectProblem(await changePassword(token, PASSWORD, weak), {
        status: 400,
        code: 'password_too_weak',
        pointer: '/new_password',
      });
    expectProblem(await changePassword(token, PASSWORD, 'kx7q'), {
      status: 400,
      code: 'password_too_weak',
      pointer: '/new_password',
    });
    expect((await api.login(email)).statusCode).toBe(200);
  });

  test('is limited per account, whatever asks for the password; a right one begins anew', async () => {
    const email = await activeUser(api);
    const { access_token: token } = await logIn(api, email);
    const { points } = limits.passwordPerUser;
    for (let tries = 1; tries < points; tries += 1)
      expectProblem(await changePassword(token, 'the wrong password'), WRONG_PASSWORD);
    expect((await changePassword(token, PASSWORD, PASSWORD)).statusCode).toBe(204);
    for (let tries = 0; tries < points; tries += 1)
      expectProblem(await deleteMe(token, 'the wrong password'), WRONG_PASSWORD);
    expectProblem(await changePassword(token), { status: 429, code: 'rate_limited' });
    expectProblem(await deleteMe(token), { status: 429, code: 'rate_limited' });
    expect((await second.login(email)).statusCode).toBe(200);
  });

  test('goes on while strangers have used up the tries to log in', async () => {
    const email = await activeUser(api);
    const { access_token: token } = await logIn(api, email);
    // Counted as the app counts them and without the hashing.
    const elsewhere = createRateLimits(redis, redisKeys(), 'on', createKeyring(MASTER_KEY).rateLimitMac);
    for (let tries = 0; tries < limits.loginPerAccount.points; tries += 1)
      await elsewhere.consume('loginPerAccount', email);
    expectProblem(await second.login(email), { status: 429, code: 'rate_limited' });
    expect((await changePassword(token)).statusCode).toBe(204);
  });

  test('of ten at once one wins, and its password is the one that logs in', async () => {
    const email = await activeUser(api);
    const { access_token: token } = await logIn(api, email);
    const wanted = Array.from({ length: 10 }, (_, index) => `${NEW_PASSWORD} ${index}`);
    const answers = await Promise.all(
      wanted.map((password, index) => changePassword(token, PASSWORD, password, index % 2 ? api : second)),
    );
    const winners = wanted.filter((_, index) => answers[index]?.statusCode === 204);
    expect(winners).toHaveLength(1);
    for (const answer of answers) if (answer.statusCode !== 204) expectProblem(answer, WRONG_PASSWORD);
    expect((await api.login(email, String(winners[0]))).statusCode).toBe(200);
  });

  test('is made though the hash of the present one is replaced meanwhile, as a login does to an imported one', async () => {
    const [email, twin] = [await activeUser(api), await activeUser(api)];
    const { access_token: token } = await logIn(api, email);
    const [other] = await database.users(twin);
    const holder = await database.begin();
    await holder.query('UPDATE users SET password_hash = $1 WHERE email_key = $2', [other?.password_hash, email]);
    const changed = changePassword(token);
    await vi.waitFor(
      async () =>
        expect(
          await database.rows(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
          ),
        ).toHaveLength(1),
      { timeout: 10_000 },
    );
    await holder.end('COMMIT');
    expect((await changed).statusCode).toBe(204);
    expect((await api.login(email, NEW_PASSWORD)).statusCode).toBe(200);
  });

  test('ends what a login with the old one opened while it was changed', async () => {
    const email = await activeUser(api);
    const here = await logIn(api, email, 'here');
    let late = '';
    const changed = await duringChange(
      database,
      email,
      () => changePassword(here.access_token),
      async () => {
        late = (await logIn(second, email, 'late')).access_token;
      },
    );
    expect(changed.statusCode).toBe(204);
    expectProblem(await api.get('/v1/me', late), { status: 401, code: 'session_revoked' });
    const { sessions } = (await api.get('/v1/sessions', here.access_token)).json();
    expect(sessions.map(({ id }: { id: string }) => id)).toEqual([here.session.id]);
  });

  test('lets no login with the old one in while it is committed', async () => {
    const email = await activeUser(api);
    const here = await logIn(api, email, 'here');
    let late: ReturnType<TestApp['login']> | undefined;
    const changed = await beforeCommit(
      database,
      () => changePassword(here.access_token),
      async () => {
        late = second.login(email);
        // It has its session, and asks whether the password still is the one it knows.
        await vi.waitFor(async () => expect(await liveSessions(here.access_token)).toBe(2), { interval: 10 });
      },
    );
    expect(changed.statusCode).toBe(204);
    expectProblem((await late) ?? changed, { status: 401, code: 'invalid_credentials' });
    expect(await liveSessions(here.access_token)).toBe(1);
  });

  test('is not made when sessions can not be ended, and can be repeated', async () => {
    const email = await activeUser(api);
    const [here] = [await logIn(api, email, 'here'), await logIn(second, email, 'there')];
    const refused = await whenRedisIsFull(email, () => changePassword(here.access_token));
    expectProblem(refused, { status: 503, code: 'dependency_unavailable' });
    const late = await logIn(second, email);
    expect((await changePassword(here.access_token)).statusCode).toBe(204);
    expectProblem(await api.get('/v1/me', late.access_token), { status: 401, code: 'session_revoked' });
    expect((await api.login(email)).statusCode).toBe(401);
  });

  test('and many logins with the old one at the same moment: none of them stays in', async () => {
    const email = await activeUser(api);
    const here = await logIn(api, email);
    const [changed, ...logins] = await Promise.all([
      changePassword(here.access_token),
      ...Array.from({ length: 12 }, (_, index) => (index % 2 ? api : second).login(email)),
    ]);
    expect(changed.statusCode).toBe(204);
    for (const login of logins)
      if (login.statusCode === 200) expect((await api.get('/v1/me', login.json().access_token)).statusCode).toBe(401);
  });
});

test('a password hashed with other parameters is rehashed by the login, which ends nothing', async () => {
  const email = await activeUser(api);
  const { access_token: before } = await logIn(api, email);
  const weaker = hashSync(PASSWORD, { algorithm: 2, memoryCost: 4096, timeCost: 1, parallelism: 1 });
  await database.rows('UPDATE users SET password_hash = $1 WHERE email = $2', [weaker, email]);
  expect((await api.login(email, 'not the password')).statusCode).toBe(401);
  expect((await database.users(email))[0]?.password_hash).toBe(weaker);
  const logins = await Promise.all([api, second, api, second].map((by) => by.login(email)));
  expect(logins.map(({ statusCode }) => statusCode)).toEqual([200, 200, 200, 200]);
  const [user] = await database.users(email);
  expect(user?.password_hash).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
  for (const token of [before, ...logins.map((login) => login.json().access_token)])
    expect((await api.get('/v1/me', token)).statusCode).toBe(200);
});

describe('the profile', () => {
  test('changes what is given and nothing else; null clears the name', async () => {
    const email = await activeUser(api);
    const { access_token: token } = await logIn(api, email);
    const patch = (body: object) => api.call('PATCH', '/v1/me', body, bearer(token));
    const before = (await api.get('/v1/me', token)).json();
    const named = await patch({ display_name: 'Ada Lovelace' });
    expect([named.statusCode, named.json()]).toEqual([200, { ...before, display_name: 'Ada Lovelace' }]);
    expect((await patch({ locale: 'de-AT' })).json()).toEqual({
      ...before,
      display_name: 'Ada Lovelace',
      locale: 'de-AT',
    });
    expect((await patch({})).json()).toMatchObject({ display_name: 'Ada Lovelace', locale: 'de-AT' });
    expect((await patch({ display_name: null })).json()).toEqual({ ...before, locale: 'de-AT' });
    expect((await api.get('/v1/me', token)).json()).toEqual({ ...before, locale: 'de-AT' });
  });

  test.each([
    ['display_name', { display_name: 'a\u0000b' }],
    ['display_name', { display_name: '' }],
    ['locale', { locale: 'not a tag' }],
    ['locale', { locale: null }],
    ['email', { email: 'other@example.test' }],
    ['status', { status: 'active' }],
  ])('refuses a wrong or unknown %s, naming it: %j', async (field, body) => {
    const email = await activeUser(api);
    const { access_token: token } = await logIn(api, email);
    expectProblem(await api.call('PATCH', '/v1/me', body, bearer(token)), {
      status: 400,
      code: 'invalid_request',
      pointer: `/${field}`,
    });
  });
});

describe('a deleted account', () => {
  test('is gone: every token refused, nothing personal left in any table or in Redis, and the address is free again', async () => {
    const email = await registeredUser(api, side);
    const [name, phone, agent, ip] = ['Ada Unforgettable', 'Very own phone', 'Unforgettable/1.0', '203.0.113.7'];
    const opened = await api.app.inject({
      method: 'POST',
      url: '/v1/tokens',
      remoteAddress: ip,
      headers: { 'user-agent': agent },
      payload: { email, password: PASSWORD, device_name: phone },
    });
    const [here, there] = [opened.json<TokenResponse>(), await logIn(second, email)];
    await api.call('PATCH', '/v1/me', { display_name: name }, bearer(here.access_token));
    expect((await changePassword(here.access_token, 'wrong password')).statusCode).toBe(401);
    const [user] = await database.users(email);
    const userId = String(user?.id);
    const ofUser = `*${userTag(userId)}*`;
    expect(await keysOf(redis, ofUser)).toContain(redisKeys().session(userId, here.session.id));
    const before = await dumpRedis();
    for (const personal of [phone, agent, ip]) expect(before).toContain(personal);
    const response = await deleteMe(here.access_token);
    expect([response.statusCode, response.body]).toEqual([204, '']);

    for (const { access_token: token, refresh_token } of [here, there]) {
      expect((await api.get('/v1/me', token)).statusCode).toBe(401);
      await vi.waitFor(async () => expect((await second.get('/v1/verify', token)).statusCode).toBe(401));
      expect((await api.post('/v1/tokens/refresh', { refresh_token })).statusCode).toBe(401);
    }
    expectProblem(await api.login(email), { status: 401, code: 'invalid_credentials' });
    const dump = (await api.dumpDatabase()).join('\n');
    for (const personal of [email, name, phone]) expect(dump).not.toContain(personal);
    // The gate alone, for as long as access tokens of before live: it holds instants.
    const gate = redisKeys().gate(userId);
    expect(await keysOf(redis, ofUser)).toEqual([gate]);
    expect(Object.values(await redis.hgetall(gate)).filter((value) => !/^\d+$/.test(value))).toEqual([]);
    const left = await redis.ttl(gate);
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThanOrEqual(here.expires_in);
    const after = await dumpRedis();
    for (const personal of [email, name, phone, agent, ip]) expect(after).not.toContain(personal);

    // What happened stays on record, without the person.
    await vi.waitFor(async () => {
      const events = await audited(userId);
      expect(events.map(({ type }) => type)).toEqual(expect.arrayContaining(['user.activated', 'user.deleted']));
      expect(events.filter(({ ip, user_agent }) => ip !== null || user_agent !== null)).toEqual([]);
    });
    expect((await api.register(email)).statusCode).toBe(202);
    const key = await side.activationKey(email, 2);
    expect((await api.post(`/v1/activations/${key}`)).statusCode).toBe(200);
    expect((await api.get('/v1/me', here.access_token)).statusCode).toBe(401);
  });

  test('is owed no mail any more', async () => {
    const email = await activeUser(api);
    const { access_token: token } = await logIn(api, email);
    await database.settled();
    await worker.stop();
    try {
      await api.post('/v1/password-resets', { email });
      await api.call(
        'PUT',
        '/v1/me/email',
        { current_password: PASSWORD, new_email: newAddress('new') },
        bearer(token),
      );
      await vi.waitFor(async () => {
        const owed = await database.owed();
        expect(owed.map(({ name, published_at }) => [name, published_at !== null])).toEqual([
          ['password_reset', true],
          ['email_change', true],
          ['email_change', true],
        ]);
      });
      expect((await deleteMe(token)).statusCode).toBe(204);
      expect(await database.owed()).toEqual([]);
      const jobs = await keysOf(redis, `${redisKeys().mailQueuePrefix}:mail:*-*-*-*-*`);
      expect(jobs).toEqual([]);
    } finally {
      worker = await side.startWorker();
      apps.worker = worker;
    }
  });

  test('needs the password: a wrong one deletes nothing and revokes nothing', async () => {
    const email = await activeUser(api);
    const { access_token: token } = await logIn(api, email);
    expectProblem(await deleteMe(token, 'wrong password'), WRONG_PASSWORD);
    expect((await api.get('/v1/me', token)).statusCode).toBe(200);
  });

  test('is not survived by a login while the deletion is committed', async () => {
    const email = await activeUser(api);
    const here = await logIn(api, email);
    const [user] = await database.users(email);
    let late: ReturnType<TestApp['login']> | undefined;
    const deleted = await beforeCommit(
      database,
      () => deleteMe(here.access_token),
      async () => {
        late = second.login(email);
        await vi.waitFor(async () => expect(await redis.zcard(redisKeys().sessions(String(user?.id)))).toBe(1), {
          interval: 10,
        });
      },
    );
    expect(deleted.statusCode).toBe(204);
    expectProblem((await late) ?? deleted, { status: 401, code: 'invalid_credentials' });
    expect(await redis.zcard(redisKeys().sessions(String(user?.id)))).toBe(0);
  });

  test('is still there when its tokens can not be refused, and can be deleted again', async () => {
    const email = await activeUser(api);
    const here = await logIn(api, email);
    const refused = await whenRedisIsFull(email, () => deleteMe(here.access_token));
    expectProblem(refused, { status: 503, code: 'dependency_unavailable' });
    const again = await logIn(second, email);
    expect((await deleteMe(again.access_token)).statusCode).toBe(204);
    expect((await second.get('/v1/me', again.access_token)).statusCode).toBe(401);
    expect(await database.users(email)).toEqual([]);
  });

  test('is not survived by a login while it was deleted', async () => {
    const email = await activeUser(api);
    const here = await logIn(api, email);
    let late = '';
    const deleted = await duringChange(
      database,
      email,
      () => deleteMe(here.access_token),
      async () => {
        late = (await logIn(second, email, 'late')).access_token;
      },
    );
    expect(deleted.statusCode).toBe(204);
    expectProblem(await api.get('/v1/verify', late), { status: 401, code: 'session_revoked' });
  });
});

test.each([
  ['PUT', '/v1/me/password', { current_password: PASSWORD, new_password: NEW_PASSWORD }],
  ['PUT', '/v1/me/email', { current_password: PASSWORD, new_email: 'other@example.test' }],
  ['PATCH', '/v1/me', { locale: 'de' }],
  ['DELETE', '/v1/me', { current_password: PASSWORD }],
] as const)('%s %s without a token, or with one of nobody, is 401', async (method, url, body) => {
  expectProblem(await api.call(method, url, body), { status: 401, code: 'missing_token' });
  expectProblem(await api.call(method, url, body, bearer('nonsense')), { status: 401, code: 'invalid_token' });
  // Whatever is asked: who asks is looked at first.
  expectProblem(await api.call(method, url, { unknown: 'field' }), { status: 401, code: 'missing_token' });
  expectProblem(await api.call(method, url), { status: 401, code: 'missing_token' });
});
