import { applyMigrations } from '@latchkey/dev-stack/migrations';
import { ensurePgBouncer, type RunningPgBouncer, startPgBouncer } from '@latchkey/dev-stack/pgbouncer';
import { type RunningPostgres, startPostgres } from '@latchkey/dev-stack/postgres';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { logIn, registeredUser } from '../accounts.ts';
import { databaseProbe } from '../mail-probe.ts';
import { startApi } from '../outage-probe.ts';
import { startMailSide, startTestApp, type TestApp, testEnvironment } from '../test-app.ts';
import { expectOnly, settles, underLoad, verified, wholeFlow } from './flow.ts';

describe.skipIf((await ensurePgBouncer()) === undefined)('PostgreSQL behind PgBouncer in transaction mode', () => {
  let postgres: RunningPostgres;
  let pooler: RunningPgBouncer;
  let side: Awaited<ReturnType<typeof startMailSide>>;
  let worker: Awaited<ReturnType<typeof side.startWorker>>;
  let apis: [TestApp, TestApp];
  let databaseUrl: string;

  beforeAll(async () => {
    postgres = await startPostgres({ durable: false });
    await applyMigrations(postgres.url);
    pooler = await startPgBouncer(postgres.url);
    databaseUrl = pooler.through(postgres.url);
    side = await startMailSide();
    const start = () =>
      startTestApp({
        redisUrl: side.redisUrl,
        databaseUrl,
        env: { RATE_LIMITS: 'off', MAX_SESSIONS_PER_USER: '100000' },
      });
    [apis, worker] = await Promise.all([Promise.all([start(), start()]), side.startWorker()]);
  });
  afterAll(async () => {
    await Promise.all([...apis.map((api) => api.close()), worker.stop()]);
    await side.stop();
    await pooler.stop();
    await postgres.stop();
  });

  test('the whole way of an account works, by many at once on five connections', async () => {
    await Promise.all(Array.from({ length: 20 }, (_, index) => wholeFlow(apis[index % 2 === 0 ? 0 : 1], side)));
    const probe = databaseProbe(databaseUrl);
    await probe.settled();
    await probe.close();
  });

  test('PostgreSQL restarted under load: 503 while it lasts, all healed without a restart', {
    timeout: 90_000,
  }, async () => {
    const [one, other] = apis;
    const email = await registeredUser(one, side);
    const { access_token, refresh_token } = await logIn(one, email);
    expect(refresh_token).toBeDefined();
    const load = underLoad({
      verify: () => verified(other, access_token),
      login: async () => (await one.login(email)).statusCode,
      register: async () => (await other.register(`${crypto.randomUUID()}@example.test`)).statusCode,
      me: async () => (await other.get('/v1/me', access_token)).statusCode,
    });
    await settles(async () => (await one.login(email)).statusCode, 200);
    await postgres.stop();
    await settles(async () => (await one.login(email)).statusCode, 503);
    await postgres.start();
    for (const api of apis) await settles(async () => (await api.login(email)).statusCode, 200);
    const seen = await load.stop();
    expect(seen.verify).toEqual(['200']);
    expectOnly(seen.login, 200);
    expectOnly(seen.register, 202);
    expectOnly(seen.me, 200);
    await wholeFlow(one, side);
  });

  test('an app that starts behind it becomes ready: the check of the migrations needs no session either', async () => {
    const api = await startApi(testEnvironment({ databaseUrl, redisUrl: side.redisUrl }));
    expect((await api.get('/readyz')).status).toBe(200);
    await api.stop();
  });
});
