import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { activeUser, duringChange, logIn } from './accounts.ts';
import { expectProblem } from './expect-problem.ts';
import { type DatabaseProbe, databaseProbe } from './mail-probe.ts';
import { newAddress, PASSWORD, startMailSide, startTestApp, type TestApp } from './test-app.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
/** Two instances of the app on the same stores. */
let api: TestApp;
let second: TestApp;
let worker: Awaited<ReturnType<typeof side.startWorker>>;
let database: DatabaseProbe;
let redis: Redis;

beforeAll(async () => {
  side = await startMailSide();
  [api, second, worker] = await Promise.all([startTestApp(side), startTestApp(side), side.startWorker()]);
  database = databaseProbe(side.databaseUrl);
  redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
});
afterAll(async () => {
  redis.disconnect();
  await database.close();
  await Promise.all([api.close(), second.close(), worker.stop()]);
  await side.stop();
});

// Every request of this file comes from one address.
beforeEach(async () => {
  const counted = await redis.keys(redisKeys().rateLimit('*'));
  if (counted.length > 0) await redis.del(...counted);
});

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

describe('a changed password', () => {
  test('logs in, the old one does not; this session stays, every other one ends on every instance', async () => {
    const email = await activeUser(api, side);
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
    const email = await activeUser(api, side);
    const { access_token: token } = await logIn(api, email);
    expect((await changePassword(token)).statusCode).toBe(204);
    const mail = await side.mail.waitFor(email, { subject: /Your password .* was changed/ });
    expect(mail.text).not.toMatch(/https?:/);
    const [user] = await database.users(email);
    expect((await audited(String(user?.id))).map(({ type }) => type)).toContain('user.password_changed');
  });

  test('needs the present one, and a wrong one changes nothing', async () => {
    const email = await activeUser(api, side);
    const [here, there] = [await logIn(api, email), await logIn(api, email)];
    expectProblem(await changePassword(here.access_token, 'not the password'), WRONG_PASSWORD);
    expect((await api.get('/v1/me', there.access_token)).statusCode).toBe(200);
    expect((await api.login(email)).statusCode).toBe(200);
    expect((await api.login(email, NEW_PASSWORD)).statusCode).toBe(401);
  });

  test('must not be easy to guess, and the field is named', async () => {
    const email = await activeUser(api, side);
    const { access_token: token } = await logIn(api, email);
    for (const weak of ['password1', email])
      expectProblem(await changePassword(token, PASSWORD, weak), {
        status: 400,
        code: 'password_too_weak',
        pointer: '/new_password',
      });
    expectProblem(await changePassword(token, PASSWORD, 'short'), {
      status: 400,
      code: 'invalid_request',
      pointer: '/new_password',
    });
    expect((await api.login(email)).statusCode).toBe(200);
  });

  test('is limited like a login, and tries count for both', async () => {
    const email = await activeUser(api, side);
    const { access_token: token } = await logIn(api, email);
    for (let tries = 0; tries < 20; tries += 1)
      expectProblem(await changePassword(token, `wrong ${tries} password`), WRONG_PASSWORD);
    expectProblem(await changePassword(token), { status: 429, code: 'rate_limited' });
    expectProblem(await api.login(email), { status: 429, code: 'rate_limited' });
  });

  test('of ten at once one wins, and its password is the one that logs in', async () => {
    const email = await activeUser(api, side);
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

  test('ends what a login with the old one opened while it was changed', async () => {
    const email = await activeUser(api, side);
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

  test('and many logins with the old one at the same moment: none of them stays in', async () => {
    const email = await activeUser(api, side);
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

describe('the profile', () => {
  test('changes what is given and nothing else; null clears the name', async () => {
    const email = await activeUser(api, side);
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
    const email = await activeUser(api, side);
    const { access_token: token } = await logIn(api, email);
    expectProblem(await api.call('PATCH', '/v1/me', body, bearer(token)), {
      status: 400,
      code: 'invalid_request',
      pointer: `/${field}`,
    });
  });
});

describe('a deleted account', () => {
  test('is gone: every token refused, nothing personal left in any table, and the address is free again', async () => {
    const email = await activeUser(api, side);
    const [here, there] = [await logIn(api, email, 'Very own phone'), await logIn(second, email)];
    await api.call('PATCH', '/v1/me', { display_name: 'Ada Unforgettable' }, bearer(here.access_token));
    expect((await changePassword(here.access_token, 'wrong password')).statusCode).toBe(401);
    const [user] = await database.users(email);
    const userId = String(user?.id);
    const response = await deleteMe(here.access_token);
    expect([response.statusCode, response.body]).toEqual([204, '']);

    for (const { access_token: token, refresh_token } of [here, there]) {
      expect((await api.get('/v1/me', token)).statusCode).toBe(401);
      await vi.waitFor(async () => expect((await second.get('/v1/verify', token)).statusCode).toBe(401));
      expect((await api.post('/v1/tokens/refresh', { refresh_token })).statusCode).toBe(401);
    }
    expectProblem(await api.login(email), { status: 401, code: 'invalid_credentials' });
    const dump = (await api.dumpDatabase()).join('\n');
    for (const personal of [email, 'Ada Unforgettable', 'Very own phone']) expect(dump).not.toContain(personal);
    expect(await redis.keys(`*{${userId}}:*`)).toEqual([]);

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
    const email = await activeUser(api, side);
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
      const jobs = await redis.keys(`${redisKeys().mailQueuePrefix}:mail:*-*-*-*-*`);
      expect(jobs).toEqual([]);
    } finally {
      worker = await side.startWorker();
    }
  });

  test('needs the password: a wrong one deletes nothing and revokes nothing', async () => {
    const email = await activeUser(api, side);
    const { access_token: token } = await logIn(api, email);
    expectProblem(await deleteMe(token, 'wrong password'), WRONG_PASSWORD);
    expect((await api.get('/v1/me', token)).statusCode).toBe(200);
  });

  test('is not survived by a login while it was deleted', async () => {
    const email = await activeUser(api, side);
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
});
