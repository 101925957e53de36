import { setTimeout as wait } from 'node:timers/promises';
import { startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { limits } from '../src/rate-limits.ts';
import { type DatabaseProbe, databaseProbe, keyIn } from './mail-probe.ts';
import { ANSWER_WITHIN, expectUnavailable, freezePostgres, type OwnApi, ownStores, startApi } from './outage-probe.ts';
import { newAddress, PUBLIC_URL, startAppProcess } from './test-app.ts';

/** Milliseconds, REVOCATION_LAG_MAX_MS: long enough to see that it is kept, short enough to wait for. */
const LAG = 1500;
/** Milliseconds the last word from Redis may be older than the moment it went: one read waits 250 ms, and the machine may be busy. */
const LAST_WORD = 1000;

let stores: Awaited<ReturnType<typeof ownStores>>;
let api: OwnApi;
let database: DatabaseProbe;

beforeAll(async () => {
  stores = await ownStores({ REVOCATION_LAG_MAX_MS: String(LAG) });
  api = await startApi(stores.environment);
  database = databaseProbe(stores.postgres.url);
});
afterAll(async () => {
  await database.close();
  await api.stop();
  await stores.stop();
});
beforeEach(() => api.becomesReady());

/** An account that is logged in. */
async function loggedIn() {
  const email = newAddress();
  expect((await api.register(email)).status).toBe(202);
  // How it was activated is not what is looked at here.
  await database.rows(`UPDATE users SET status = 'active' WHERE email = $1`, [email]);
  const { status, body } = await api.login(email);
  expect(status).toBe(200);
  expect((await api.get('/v1/verify', body.access_token)).status).toBe(200);
  return { email, access: body.access_token, refresh: body.refresh_token };
}

const dependencyErrors = (dependency: string) =>
  api.metric(`latchkey_dependency_errors_total{dependency="${dependency}"}`);

/** Same process, and it says so. */
async function expectAlive(): Promise<void> {
  const { status, ms } = await api.get('/livez');
  expect(status).toBe(200);
  expect(ms).toBeLessThan(ANSWER_WITHIN);
}

async function expectNotReady(...names: string[]): Promise<void> {
  const { status, body, ms } = await api.get('/readyz');
  expect({ status, body }).toMatchObject({ status: 503, body: { status: 'not_ready' } });
  expect(body.checks).toMatchObject(Object.fromEntries(names.map((name) => [name, { status: 'down' }])));
  expect(ms).toBeLessThan(ANSWER_WITHIN);
}

describe.each([
  ['stopped', () => stores.postgres.stop(), () => stores.postgres.start()],
  ['killed', () => stores.postgres.kill(), () => stores.postgres.start()],
  ['frozen', () => freeze(), async () => thaw()],
])('PostgreSQL %s', (how, away, back) => {
  test('requests that need it get 503 in time, the rest go on, and all heals without a restart', async () => {
    const user = await loggedIn();
    const counted = await dependencyErrors('postgresql');
    const logged = api.errors().length;
    await away();
    try {
      expectUnavailable(await api.register(newAddress()), 'postgresql');
      expectUnavailable(await api.login(user.email), 'postgresql');
      expectUnavailable(await api.resend(newAddress()), 'postgresql');
      expectUnavailable(await api.get('/v1/me', user.access), 'postgresql');
      await expectAlive();
      await expectNotReady('postgresql', 'migrations');
      expect((await api.get('/v1/verify', user.access)).status).toBe(200);
      expect((await api.refresh(user.refresh)).status).toBe(200);
      expect((await api.get('/.well-known/jwks.json')).status).toBe(200);
      expect(await dependencyErrors('postgresql')).toBeGreaterThanOrEqual(counted + 4);
      const routes = ['/v1/users', '/v1/tokens', '/v1/activations', '/v1/me'];
      // The lines of another process come when they come.
      await vi.waitFor(() => {
        const lines = api.errors().slice(logged);
        for (const route of routes)
          expect(lines).toContainEqual(
            expect.objectContaining({ msg: 'a dependency is down', dependency: 'postgresql', route }),
          );
      });
    } finally {
      await back();
    }
    await api.becomesReady();
    expect((await api.get('/v1/me', user.access)).body).toMatchObject({ email: user.email });
    expect((await api.login(user.email)).status).toBe(200);
    expect((await api.register(newAddress())).status, how).toBe(202);
  });

  test('logging out everywhere ends every kind of token or none, though the answer is 503', async () => {
    const user = await loggedIn();
    await away();
    try {
      expectUnavailable(await api.delete('/v1/sessions', user.access), 'postgresql');
      expect((await api.get('/v1/verify', user.access)).status).toBe(401);
      expect((await api.refresh(user.refresh)).status).toBe(401);
    } finally {
      await back();
    }
    await api.becomesReady();
    expect((await api.get('/v1/verify', user.access)).status).toBe(401);
  });

  test('many requests at once and one after another are answered in time, and leave nothing behind', async () => {
    const { access } = await loggedIn();
    const before = await resources();
    await away();
    try {
      const waiting: Promise<void>[] = [];
      // Two seconds of them: those that come while others wait for a connection must not wait for theirs and then for PostgreSQL.
      for (let burst = 0; burst < 10; burst += 1) {
        for (let each = 0; each < 3; each += 1) waiting.push(api.login(newAddress()).then(expectUnavailable));
        for (let each = 0; each < 5; each += 1) waiting.push(api.get('/v1/me', access).then(expectUnavailable));
        await wait(200);
      }
      await Promise.all(waiting);
      await expectAlive();
    } finally {
      await back();
    }
    await api.becomesReady();
    await expectNothingLeft(before);
  });
});

let thaw = (): void => undefined;
async function freeze(): Promise<void> {
  thaw = freezePostgres(stores.postgres);
}

/** What a process can pile up. */
async function resources() {
  const [handles, requests, sockets] = await Promise.all([
    api.metric('nodejs_active_handles_total'),
    api.metric('nodejs_active_requests_total'),
    api.metric('nodejs_active_resources{type="TCPSocketWrap"}'),
  ]);
  return { handles, requests, sockets };
}

async function expectNothingLeft(before: Awaited<ReturnType<typeof resources>>): Promise<void> {
  await vi.waitFor(
    async () => {
      const now = await resources();
      // The pool of connections to PostgreSQL (ten, packages/shared/src/database.ts) may be full now and not before.
      for (const [name, count] of Object.entries(now))
        expect(count, name).toBeLessThanOrEqual(before[name as keyof typeof before] + 12);
    },
    { timeout: 15_000, interval: 200 },
  );
}

/** `forgets`: this Redis keeps nothing on disk, so it comes back without what was revoked. */
describe.each([
  { how: 'stopped', away: () => stores.redis.stop(), back: () => stores.redis.start(), forgets: true },
  { how: 'killed', away: () => stores.redis.kill(), back: () => stores.redis.start(), forgets: true },
  { how: 'frozen', away: async () => stores.redis.freeze(), back: async () => stores.redis.thaw(), forgets: false },
])('Redis $how', ({ how, away, back, forgets }) => {
  test('login and refresh get 503 in time, registration goes on, and all heals without a restart', async () => {
    const user = await loggedIn();
    const counted = await dependencyErrors('redis');
    const logged = api.errors().length;
    await away();
    try {
      expectUnavailable(await api.login(user.email), 'redis');
      expectUnavailable(await api.refresh(user.refresh), 'redis');
      expectUnavailable(await api.get(`/v1/activations/${'A'.repeat(32)}`), 'redis');
      expectUnavailable(await api.post(`/v1/activations/${'A'.repeat(32)}`), 'redis');
      const [registration, resend] = [await api.register(newAddress()), await api.resend(newAddress())];
      for (const answer of [registration, resend]) {
        expect(answer).toMatchObject({ status: 202, body: { status: 'activation_required' } });
        expect(answer.ms).toBeLessThan(ANSWER_WITHIN);
      }
      await expectAlive();
      await expectNotReady('redis');
      expect(await dependencyErrors('redis')).toBeGreaterThanOrEqual(counted + 4);
      await vi.waitFor(() => {
        const lines = api.errors().slice(logged);
        for (const route of ['/v1/tokens', '/v1/tokens/refresh', '/v1/activations/:key'])
          expect(lines).toContainEqual(
            expect.objectContaining({ msg: 'a dependency is down', dependency: 'redis', route }),
          );
      });
    } finally {
      await back();
    }
    await api.becomesReady();
    expect((await api.login(user.email)).status, how).toBe(200);
  });

  test('verify believes its copy for REVOCATION_LAG_MAX_MS and no longer, then refuses until Redis is back with its revocations', async () => {
    const { email, access } = await loggedIn();
    // After an outage the first answer to come is an old one.
    await vi.waitFor(async () => expect(await api.metric('latchkey_revocation_lag_seconds')).toBeLessThan(0.5));
    const goes = performance.now();
    await away();
    const gone = performance.now();
    try {
      for (;;) {
        const sent = performance.now();
        const answer = await api.get('/v1/verify', access);
        if (performance.now() < goes + LAG - LAST_WORD) expect(answer.status).toBe(200);
        if (sent > gone + LAG) {
          expectUnavailable(answer);
          break;
        }
        await wait(20);
      }
      expectUnavailable(await api.get('/v1/me', access));
      expectUnavailable(await api.delete('/v1/sessions/current', access));
      await expectNotReady('redis', 'revocations');
    } finally {
      await back();
    }
    await api.becomesReady();
    const after = await api.get('/v1/verify', access);
    if (forgets) expect(after, how).toMatchObject({ status: 401, body: { code: 'session_revoked' } });
    else expect(after.status, how).toBe(200);
    const again = await api.login(email);
    expect((await api.get('/v1/verify', again.body.access_token)).status, how).toBe(200);
  });

  test('limits go on in each instance: the 11th mail to one address is refused', async () => {
    const email = newAddress();
    await away();
    try {
      const answers = [];
      for (let mails = 0; mails <= limits.mailPerRecipient.points; mails += 1) answers.push(await api.resend(email));
      expect(answers.map(({ status }) => status)).toEqual([...Array(limits.mailPerRecipient.points).fill(202), 429]);
      expect(Number(answers.at(-1)?.headers['retry-after']), how).toBeGreaterThan(0);
      for (const { ms } of answers) expect(ms).toBeLessThan(ANSWER_WITHIN);
      // Not each of them waits to learn that Redis does not count: 250 ms for either of two limits would be 5 s (src/rate-limits.ts).
      expect(answers.reduce((sum, { ms }) => sum + ms, 0)).toBeLessThan(3000);
    } finally {
      await back();
    }
  });

  test('many requests at once and one after another are answered in time, and leave nothing behind', async () => {
    const { email, refresh } = await loggedIn();
    const before = await resources();
    await away();
    try {
      const waiting: Promise<void>[] = [];
      for (let burst = 0; burst < 10; burst += 1) {
        // Fewer logins than the limit of one account allows.
        waiting.push(api.login(email).then(expectUnavailable));
        for (let each = 0; each < 10; each += 1) waiting.push(api.refresh(refresh).then(expectUnavailable));
        await wait(200);
      }
      await Promise.all(waiting);
      await expectAlive();
    } finally {
      await back();
    }
    await api.becomesReady();
    await expectNothingLeft(before);
  });
});

test('started while PostgreSQL and Redis are down, the app starts, is not ready, and becomes ready by itself', async () => {
  const own = await ownStores();
  onTestFinished(() => own.stop());
  await Promise.all([own.postgres.stop(), own.redis.stop()]);
  const early = await startApi(own.environment, { ready: false });
  onTestFinished(() => early.stop().then(() => undefined));
  await vi.waitFor(async () => expect((await early.get('/livez')).status).toBe(200), { timeout: 20_000 });
  expect(await early.get('/readyz')).toMatchObject({
    status: 503,
    body: { checks: { postgresql: { status: 'down' }, redis: { status: 'down' }, signing_keys: { status: 'down' } } },
  });
  // What a probe excludes counts until it has passed once.
  expect(await early.get('/readyz?exclude=postgresql&exclude=signing_keys')).toMatchObject({
    status: 503,
    body: { checks: { postgresql: { status: 'down' }, signing_keys: { status: 'down' } } },
  });
  expectUnavailable(await early.register(newAddress()), 'postgresql');
  expectUnavailable(await early.get('/v1/verify', 'a.b.c'));
  await Promise.all([own.postgres.start(), own.redis.start()]);
  await early.becomesReady();
  expect((await early.register(newAddress())).status).toBe(202);
});

test('told to stop while PostgreSQL and Redis are down, the app stops in good order', async () => {
  const own = await ownStores();
  onTestFinished(() => own.stop());
  const stopped = await startApi(own.environment);
  onTestFinished(() => stopped.stop().then(() => undefined));
  await Promise.all([own.postgres.stop(), own.redis.stop()]);
  expectUnavailable(await stopped.register(newAddress()), 'postgresql');
  // CLOSE_WITHIN in src/main.ts is 9 s; then it would be killed with another code.
  expect(await stopped.stop()).toEqual({ code: 0, signal: null });
});

test('told to stop while a mail waits for a Redis that was never there, the app stops in good order', async () => {
  const own = await ownStores();
  onTestFinished(() => own.stop());
  await own.redis.stop();
  const early = await startApi(own.environment, { ready: false });
  onTestFinished(() => early.stop().then(() => undefined));
  await vi.waitFor(async () => expect((await early.get('/livez')).status).toBe(200), { timeout: 20_000 });
  expect((await early.register(newAddress())).status).toBe(202);
  await vi.waitFor(() =>
    expect(early.errors()).toContainEqual(
      expect.objectContaining({ msg: expect.stringMatching(/^the mail relay cannot work/) }),
    ),
  );
  expect(await early.stop()).toEqual({ code: 0, signal: null });
});

test('Redis, worker and mail server all down: registration answers 202 in time, and the mail arrives when they return', async () => {
  const catcher = await startMailCatcher();
  onTestFinished(() => catcher.stop());
  const worker = () =>
    startAppProcess('mailer-worker', {
      REDIS_URL: stores.redis.url,
      SMTP_URL: `smtp://127.0.0.1:${catcher.smtpPort}`,
      MAIL_FROM: 'Latchkey <no-reply@example.test>',
      PUBLIC_URL,
      HOST: '127.0.0.1',
    });
  await (await worker()).stop();
  await Promise.all([catcher.stop(), stores.redis.stop()]);
  const email = newAddress();
  const answer = await api.register(email);
  expect(answer.status).toBe(202);
  expect(answer.ms).toBeLessThan(ANSWER_WITHIN);
  const [owed] = (await database.owed()).filter(({ payload }) => payload.to === email);
  expect(owed).toMatchObject({ name: 'activation', published_at: null });
  await stores.redis.start();
  const inbox = await startMailCatcher({ smtpPort: catcher.smtpPort });
  onTestFinished(() => inbox.stop());
  const again = await worker();
  onTestFinished(() => again.stop().then(() => undefined));
  const key = keyIn(await inbox.waitFor(email, { timeoutMs: 20_000 }));
  await api.becomesReady();
  expect((await api.post(`/v1/activations/${key}`)).status).toBe(200);
  await database.settled();
});
