import { hash } from 'node:crypto';
import { startRedis } from '@latchkey/dev-stack/redis';
import { keysOf, tellAll } from '@latchkey/dev-stack/test-redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { activeUser, beforeCommit, duringChange, logIn } from './accounts.ts';
import { expectProblem } from './expect-problem.ts';
import { newAddress, PASSWORD, type TestApp, testApp } from './test-app.ts';
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
const UNKNOWN = { status: 404, code: 'password_reset_key_unknown' };
const EXPIRED = { status: 410, code: 'password_reset_key_expired' };
const USED = { status: 410, code: 'password_reset_key_used' };

const urlOf = (key: string) => `/v1/password-resets/${key}`;
const ask = (email: string, by = api) => by.post('/v1/password-resets', { email });
const inspect = (key: string) => api.get(urlOf(key));
const reset = (key: string, password = NEW_PASSWORD, by = api) => by.post(urlOf(key), { new_password: password });

/** The key of the newest reset mail to an address, once `count` of them have come. */
async function resetKey(email: string, count = 1): Promise<string> {
  return vi.waitFor(
    () => {
      const keys = side.mail
        .mails(email)
        .map(({ text }) => /\/reset-password\/([A-Za-z0-9]{32})/.exec(text)?.[1])
        .filter((key) => key !== undefined);
      expect(keys.length).toBeGreaterThanOrEqual(count);
      return String(keys.at(-1));
    },
    { timeout: 20_000 },
  );
}

/** A user who asked for a new password. */
async function asked() {
  const email = await activeUser(api);
  expect((await ask(email)).statusCode).toBe(202);
  return { email, key: await resetKey(email) };
}

const recordName = (key: string) => redisKeys().passwordResetKey(hash('sha256', key, 'base64url'));

/** Ages a key to the instant it expires. */
async function expire(key: string): Promise<void> {
  const { renewal_ms } = JSON.parse((await redis.get(recordName(key))) ?? '');
  expect(await redis.pexpire(recordName(key), renewal_ms)).toBe(1);
}

describe('a password that was reset', () => {
  test('logs in, the old one does not; every session ends, the notice is mailed, and it is recorded', async () => {
    const email = await activeUser(api);
    const devices = [await logIn(api, email, 'one'), await logIn(second, email, 'two')];
    await ask(email);
    const key = await resetKey(email);
    const [asked] = await database.rows<{ at: Date }>('SELECT now() AS at');
    const response = await reset(key);
    expect([response.statusCode, response.body]).toEqual([204, '']);
    // The cut-off outlives Redis.
    const [user] = await database.rows<{ from: Date }>('SELECT tokens_valid_from AS from FROM users WHERE email = $1', [
      email,
    ]);
    expect(user?.from.getTime()).toBeGreaterThanOrEqual(asked?.at.getTime() ?? 0);
    for (const { access_token: token, refresh_token } of devices) {
      expectProblem(await api.get('/v1/me', token), { status: 401, code: 'session_revoked' });
      await vi.waitFor(async () => expect((await second.get('/v1/me', token)).statusCode).toBe(401));
      expect((await api.post('/v1/tokens/refresh', { refresh_token })).statusCode).toBe(401);
    }
    expect((await api.login(email)).statusCode).toBe(401);
    const login = await api.login(email, NEW_PASSWORD);
    expect(login.statusCode).toBe(200);
    expect((await api.get('/v1/me', login.json().access_token)).statusCode).toBe(200);
    const notice = await side.mail.waitFor(email, { subject: /Your password .* was changed/ });
    expect(notice.text).not.toMatch(/https?:/);
    const events = await database.rows<{ type: string }>(
      'SELECT type FROM audit_events JOIN users ON users.id = user_id WHERE email = $1',
      [email],
    );
    expect(events.map(({ type }) => type)).toContain('user.password_reset');
  });

  test('ends what a login with the old one opened while it was reset', async () => {
    const { email, key } = await asked();
    let late = '';
    const done = await duringChange(
      database,
      email,
      () => reset(key),
      async () => {
        late = (await logIn(second, email, 'late')).access_token;
      },
    );
    expect(done.statusCode).toBe(204);
    expectProblem(await api.get('/v1/me', late), { status: 401, code: 'session_revoked' });
  });
});

test('a login with the old password is not let in while the new one is committed', async () => {
  const { email, key } = await asked();
  const [user] = await database.users(email);
  const sessions = () => redis.zcard(redisKeys().sessions(String(user?.id)));
  let late: ReturnType<TestApp['login']> | undefined;
  const done = await beforeCommit(
    database,
    () => reset(key),
    async () => {
      late = second.login(email);
      await vi.waitFor(async () => expect(await sessions()).toBe(1), { interval: 10 });
    },
  );
  expect(done.statusCode).toBe(204);
  expectProblem((await late) ?? done, { status: 401, code: 'invalid_credentials' });
  expect(await sessions()).toBe(0);
});

test('a key stays good when sessions can not be ended any more once it is being spent', async () => {
  const { email, key } = await asked();
  const before = await logIn(api, email);
  try {
    const refused = await duringChange(
      database,
      email,
      () => reset(key),
      async () => {
        await tellAll(redis, (server) => server.config('SET', 'maxmemory', '1'));
      },
    );
    expectProblem(refused, { status: 503, code: 'dependency_unavailable' });
  } finally {
    await tellAll(redis, (server) => server.config('SET', 'maxmemory', '0'));
  }
  expect((await api.login(email)).statusCode).toBe(200);
  expect((await reset(key)).statusCode).toBe(204);
  expect((await api.get('/v1/me', before.access_token)).statusCode).toBe(401);
  expect((await api.login(email)).statusCode).toBe(401);
});

describe('a key', () => {
  test('is spent once: of 40 POSTs at the same moment, to two instances, one gets 204 and the rest 410', async () => {
    const { email, key } = await asked();
    const passwords = Array.from({ length: 40 }, (_, index) => `${NEW_PASSWORD} ${index}`);
    const answers = await Promise.all(
      passwords.map((password, index) => reset(key, password, index % 2 ? api : second)),
    );
    const winners = passwords.filter((_, index) => answers[index]?.statusCode === 204);
    expect(winners).toHaveLength(1);
    for (const answer of answers) if (answer.statusCode !== 204) expectProblem(answer, USED);
    expect((await api.login(email, String(winners[0]))).statusCode).toBe(200);
  });

  test('says until when it works, ACTIVATION_KEY_TTL from the mail, and looking never spends it', async () => {
    const before = Date.now();
    const { email, key } = await asked();
    const after = Date.now();
    const record = await redis.get(recordName(key));
    const told = new Set<string>();
    for (let times = 0; times < 20; times += 1) {
      const response = await inspect(key);
      expect([response.statusCode, response.headers['cache-control']]).toEqual([200, 'no-store']);
      expect(response.json()).toEqual({ expires_at: expect.any(String) });
      const expiresAt = Date.parse(response.json().expires_at);
      told.add(response.json().expires_at);
      expect(expiresAt).toBeGreaterThanOrEqual(before + 900_000);
      // The two apps and Redis each round to milliseconds.
      expect(expiresAt).toBeLessThanOrEqual(after + 900_000 + 5);
      for (const method of ['HEAD', 'OPTIONS'] as const) await api.call(method, urlOf(key));
    }
    expect(told.size).toBe(1);
    expect(await redis.get(recordName(key))).toBe(record);
    expect((await api.login(email)).statusCode).toBe(200);
    expect((await reset(key)).statusCode).toBe(204);
  });

  test('that was used is 410 to look at and to use again', async () => {
    const { email, key } = await asked();
    expect((await reset(key)).statusCode).toBe(204);
    expectProblem(await inspect(key), USED);
    expectProblem(await reset(key, 'nine yellow kettles hum'), USED);
    expect((await api.login(email, NEW_PASSWORD)).statusCode).toBe(200);
  });

  test('that has expired is 410 to look at and to use, and changes nothing', async () => {
    const { email, key } = await asked();
    await expire(key);
    expectProblem(await inspect(key), EXPIRED);
    expectProblem(await reset(key), EXPIRED);
    expect((await api.login(email)).statusCode).toBe(200);
  });

  test('that never was, or was mangled, is 404', async () => {
    const { key } = await asked();
    for (const wrong of ['A'.repeat(32), key.slice(1), `${key}A`, `${key}=`, [...key].reverse().join('')]) {
      expectProblem(await inspect(wrong), UNKNOWN);
      expectProblem(await reset(wrong), UNKNOWN);
    }
  });

  test('is dead once a newer one is asked for, even before that is mailed', async () => {
    const { email, key } = await asked();
    await ask(email);
    expectProblem(await inspect(key), UNKNOWN);
    expectProblem(await reset(key), UNKNOWN);
    expect((await reset(await resetKey(email, 2))).statusCode).toBe(204);
    expectProblem(await reset(key), UNKNOWN);
  });

  test('is dead once the password was changed', async () => {
    const { email, key } = await asked();
    const { access_token: token } = await logIn(api, email);
    const body = { current_password: PASSWORD, new_password: NEW_PASSWORD };
    const changed = await api.call('PUT', '/v1/me/password', body, { authorization: `Bearer ${token}` });
    expect(changed.statusCode).toBe(204);
    expectProblem(await reset(key, 'nine yellow kettles hum'), UNKNOWN);
    expect((await api.login(email, NEW_PASSWORD)).statusCode).toBe(200);
  });

  test('survives a password that is too weak, which is named', async () => {
    const { email, key } = await asked();
    for (const weak of ['password1', email])
      expectProblem(await reset(key, weak), { status: 400, code: 'password_too_weak', pointer: '/new_password' });
    expectProblem(await reset(key, 'kx7q'), { status: 400, code: 'password_too_weak', pointer: '/new_password' });
    expect((await reset(key)).statusCode).toBe(204);
  });

  test('for one purpose works for no other', async () => {
    const { email, key } = await asked();
    const { access_token: token } = await logIn(api, email);
    const newEmail = newAddress('new');
    const pending = newAddress('pending');
    await api.register(pending);
    await api.call(
      'PUT',
      '/v1/me/email',
      { current_password: PASSWORD, new_email: newEmail },
      { authorization: `Bearer ${token}` },
    );
    const changeKey = /\/change-email\/([A-Za-z0-9]{32})/.exec((await side.mail.waitFor(newEmail)).text)?.[1] ?? '';
    const activationKey = await side.activationKey(pending);
    for (const other of [changeKey, activationKey]) {
      expectProblem(await inspect(other), UNKNOWN);
      expectProblem(await reset(other), UNKNOWN);
    }
    for (const other of [key, changeKey])
      expectProblem(await api.post(`/v1/activations/${other}`), { status: 404, code: 'activation_key_unknown' });
    for (const other of [key, activationKey])
      expectProblem(await api.post(`/v1/email-changes/${other}`), { status: 404, code: 'email_change_key_unknown' });
    expect((await api.post(`/v1/activations/${activationKey}`)).statusCode).toBe(200);
    expect((await api.post(`/v1/email-changes/${changeKey}`)).statusCode).toBe(200);
  });

  test('is in no table, key, value or log line: Redis holds its SHA-256 alone', async () => {
    const { key } = await asked();
    await reset(key);
    expect((await api.dumpDatabase()).join('\n')).not.toContain(key);
    const names = await keysOf(redis, '*');
    expect(names).toContain(recordName(key));
    expect(names.join('\n')).not.toContain(key);
    expect([...api.logs, ...worker.output].join('\n')).not.toContain(key);
  });
});

describe('who asks', () => {
  test('gets the same answer whether the address has an account, waits for activation or is unknown', async () => {
    const known = await activeUser(api);
    const pending = newAddress();
    await api.register(pending);
    const answers = await Promise.all([known, pending, newAddress()].map((email) => ask(email)));
    const seen = answers.map(({ statusCode, body, headers }) => {
      const { 'x-request-id': _id, date: _date, ...alike } = headers;
      return { statusCode, body, alike };
    });
    expect(seen[0]).toMatchObject({ statusCode: 202, body: '{"status":"reset_requested"}' });
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[2]).toEqual(seen[0]);
  });

  test('waits for the floor at least', async () => {
    const started = performance.now();
    await ask(newAddress());
    // Timers may fire a millisecond early.
    expect(performance.now() - started).toBeGreaterThanOrEqual(29);
  });

  test('of an address that waits for activation or is unknown mails nothing', async () => {
    const pending = newAddress();
    const unknown = newAddress();
    await api.register(pending);
    await side.activationKey(pending);
    await Promise.all([ask(pending), ask(unknown)]);
    await database.settled();
    expect(side.mail.mails(pending)).toHaveLength(1);
    expect(side.mail.mails(unknown)).toHaveLength(0);
  });

  test('may have one mailbox mailed ten times an hour', async () => {
    const email = newAddress();
    for (let times = 0; times < 10; times += 1) expect((await ask(email)).statusCode).toBe(202);
    expectProblem(await ask(email), { status: 429, code: 'rate_limited' });
  });
});

test('while Redis is away a reset is 503, and changes nothing', async () => {
  const { email, key } = await asked();
  // From here on: its relay sees the mails that are owed too, and no worker takes them from there.
  const own = await startRedis();
  onTestFinished(() => own.stop());
  const stranded = await testApp({ databaseUrl: side.databaseUrl, redisUrl: own.url });
  const store = connectRedis(own.url, 'queueWorker', () => undefined);
  onTestFinished(() => store.disconnect());
  const [name, record] = [recordName(key), String(await redis.get(recordName(key)))];
  await store.set(name, record, 'PX', 900_000 + JSON.parse(record).renewal_ms);
  // It answers what is asked and takes no more writes: so it is when it is full.
  await store.config('SET', 'maxmemory', '1');
  expectProblem(await reset(key, NEW_PASSWORD, stranded), { status: 503, code: 'dependency_unavailable' });
  expect((await api.login(email)).statusCode).toBe(200);
  await store.config('SET', 'maxmemory', '0');
  expect((await reset(key, NEW_PASSWORD, stranded)).statusCode).toBe(204);
});
