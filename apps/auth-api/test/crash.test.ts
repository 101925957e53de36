import { type RunningRedis, startRedis } from '@latchkey/dev-stack/redis';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { tellAll } from '@latchkey/dev-stack/test-redis';
import { connectDatabase } from '@latchkey/shared/database';
import { MAIL_QUEUE } from '@latchkey/shared/mail-jobs';
import { connectRedis, type RedisConnection } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { Queue } from 'bullmq';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, onTestFinished, test, vi } from 'vitest';
import { createOutbox } from '../src/store/outbox.ts';
import { type DatabaseProbe, databaseProbe, keysMailed } from './mail-probe.ts';
import { type OwnApi, startApi } from './outage-probe.ts';
import { newAddress, startAppProcess, startMailSide, type TestApp, testApp, testEnvironment } from './test-app.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
let database: DatabaseProbe;
let redis: RedisConnection;
let server: RunningRedis;
let queue: Queue;
let worker: Awaited<ReturnType<typeof side.startWorker>>;

beforeAll(async () => {
  server = await startRedis();
  side = await startMailSide({}, server);
  database = databaseProbe(side.databaseUrl);
  redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
  queue = new Queue(MAIL_QUEUE, { connection: redis, prefix: redisKeys().mailQueuePrefix });
  queue.on('error', () => undefined);
  worker = await side.startWorker();
});
afterAll(async () => {
  startWorker();
  await worker.stop();
  await queue.close();
  redis.disconnect();
  await database.close();
  await side.stop();
});

// Whatever happened, in the end nothing is owed, and the worker has nothing in its hands.
afterEach(async () => {
  await database.settled();
  await vi.waitFor(async () => expect(await queue.getActiveCount()).toBe(0));
});

// Frozen, the worker takes no mail until it is let go: what one does that starts only then, for a fraction of the work.
beforeEach(() => worker.process.signal('SIGSTOP'));
const startWorker = (): void => worker.process.signal('SIGCONT');

async function startProcess(): Promise<OwnApi> {
  const api = await startApi(testEnvironment(side, { RATE_LIMITS: 'off' }));
  onTestFinished(() => api.stop().then(() => undefined));
  return api;
}

/** A relay that looks for lost jobs at every pass, in whatever was published before it. */
const EAGER = { lostAfter: 0, searchEvery: 1 };
const startApp = (relay = {}): Promise<TestApp> => testApp({ ...side, env: { RATE_LIMITS: 'off' }, relay });

async function kill(api: OwnApi): Promise<void> {
  api.process.signal('SIGKILL');
  expect(await api.process.ended).toEqual({ code: null, signal: 'SIGKILL' });
}

/** The addresses each got one mail, whose key works. */
async function expectOneMailEach(emails: string[], activate: (key: string) => Promise<number>): Promise<void> {
  for (const email of emails) await side.mail.waitFor(email, { timeoutMs: 20_000 });
  await database.settled();
  for (const email of emails) {
    expect(side.mail.mails(email)).toHaveLength(1);
    expect(await activate(keysMailed(side.mail, email)[0] ?? '')).toBe(200);
  }
}

const activateIn = (api: TestApp) => async (key: string) => (await api.post(`/v1/activations/${key}`)).statusCode;

// Processes are started several times; on a busy machine each start takes seconds.
describe('kill -9 of auth-api', { timeout: 90_000 }, () => {
  test('after the commit and before anything was published loses no mail: the next start sends it, once', async () => {
    const killed = await startProcess();
    // Nothing can be published while Redis is down.
    await server.stop();
    const email = newAddress();
    expect((await killed.register(email)).status).toBe(202);
    await kill(killed);
    expect(await database.owed()).toMatchObject([{ payload: { to: email }, published_at: null }]);
    await server.start();
    startWorker();
    await expectOneMailEach([email], activateIn(await startApp()));
  });

  test('the moment it has answered loses no mail and sends none twice, wherever in the relay that is', async () => {
    startWorker();
    const emails: string[] = [];
    for (let round = 0; round < 3; round += 1) {
      const killed = await startProcess();
      const batch = Array.from({ length: 5 }, () => newAddress());
      const answers = await Promise.all(batch.map((email) => killed.register(email)));
      await kill(killed);
      expect(answers.map(({ status }) => status)).toEqual(batch.map(() => 202));
      emails.push(...batch);
    }
    await expectOneMailEach(emails, activateIn(await startApp()));
  });

  test('with requests under way: whoever was answered gets a mail, and nobody gets two', async () => {
    startWorker();
    const killed = await startProcess();
    const emails = Array.from({ length: 40 }, () => newAddress());
    const answered: string[] = [];
    const { promise: some, resolve } = Promise.withResolvers<void>();
    const requests = emails.map(async (email) => {
      const answer = await killed.register(email).catch(() => undefined);
      if (answer?.status === 202) answered.push(email);
      if (answered.length === 10) resolve();
    });
    await some;
    await kill(killed);
    await Promise.all(requests);
    expect(answered.length).toBeLessThan(emails.length);
    await expectOneMailEach(answered, activateIn(await startApp()));
    for (const email of emails) expect(side.mail.mails(email).length).toBeLessThanOrEqual(1);
  });
});

describe('the relay', () => {
  test('publishes again what Redis has lost before a worker took it', async () => {
    const api = await startApp(EAGER);
    const emails = [newAddress(), newAddress()];
    for (const email of emails) await api.register(email);
    await vi.waitFor(async () => expect(await queue.getWaitingCount()).toBe(2));
    await tellAll(redis, (server) => server.flushall());
    await vi.waitFor(async () => expect(await queue.getWaitingCount()).toBe(2));
    // Told once there are no more.
    await vi.waitFor(() => expect(api.logs.some((line) => line.includes('jobs were lost'))).toBe(true));
    startWorker();
    await expectOneMailEach(emails, activateIn(api));
  });

  test('leaves alone what waits in the queue, however long', async () => {
    const api = await startApp(EAGER);
    const email = newAddress();
    await api.register(email);
    await vi.waitFor(async () => expect(await queue.getWaitingCount()).toBe(1));
    const publishedAt = async () => (await database.owed())[0]?.published_at?.getTime() ?? 0;
    const first = await publishedAt();
    // A pass that finds the job touches the row: three passes were made.
    let passes = 0;
    for (let last = first; passes < 3; passes += 1)
      last = await vi.waitFor(async () => {
        const now = await publishedAt();
        expect(now).toBeGreaterThan(last);
        return now;
      });
    expect(await queue.getWaitingCount()).toBe(1);
    expect(api.logs.filter((line) => line.includes('jobs were lost'))).toEqual([]);
    startWorker();
    await expectOneMailEach([email], activateIn(api));
  });

  test.each([
    ['as they do', {}],
    ['looking for lost jobs all the time', EAGER],
  ])('of two instances, %s, sends each mail once', async (_what, relay) => {
    const instances = await Promise.all([startApp(relay), startApp(relay)]);
    startWorker();
    const emails = Array.from({ length: 60 }, () => newAddress());
    await Promise.all(
      emails.map(async (email, index) => expect((await instances[index % 2]?.register(email))?.statusCode).toBe(202)),
    );
    const [one] = instances;
    await expectOneMailEach(emails, one ? activateIn(one) : async () => 0);
    expect(await redis.scard(redisKeys().mailAccepted)).toBe(0);
  });

  test('that fails while it hands mails over leaves them unpublished, and the next pass hands them over', async () => {
    const own = await createTestDatabase(inject('databaseUrl'));
    const db = connectDatabase(own.url, () => undefined);
    const rows = databaseProbe(own.url);
    onTestFinished(async () => {
      await Promise.all([db.$disconnect(), rows.close()]);
      await own.drop();
    });
    await rows.rows(
      `INSERT INTO mail_outbox (id, name, payload) SELECT gen_random_uuid(), 'activation', '{}' FROM generate_series(1, 3)`,
    );
    const outbox = createOutbox(db);
    await expect(outbox.publishPending(() => Promise.reject(new Error('Redis is away')))).rejects.toThrow(
      'Redis is away',
    );
    expect((await rows.owed()).map(({ published_at }) => published_at)).toEqual([null, null, null]);
    const handed: string[] = [];
    const take = async (mails: { id: string }[]) => void handed.push(...mails.map(({ id }) => id));
    // Both say that there is no more.
    expect([await outbox.publishPending(take), await outbox.publishPending(take)]).toEqual([false, false]);
    expect(handed.sort()).toEqual((await rows.owed()).map(({ id }) => id).sort());
  });

  test('that was told of an acceptance and could not delete the row is told again', async () => {
    startWorker();
    const api = await startApp();
    const blocked = newAddress();
    // PostgreSQL refuses while the mail is accepted.
    await database.rows(
      `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$`,
    );
    await database.rows(
      'CREATE TRIGGER refuse BEFORE DELETE ON mail_outbox FOR EACH STATEMENT EXECUTE FUNCTION refuse()',
    );
    await api.register(blocked);
    await side.mail.waitFor(blocked);
    await vi.waitFor(() => expect(api.logs.some((line) => line.includes('the mail relay cannot work'))).toBe(true));
    expect(await redis.scard(redisKeys().mailAccepted)).toBe(1);
    await database.rows('DROP FUNCTION refuse CASCADE');
    await expectOneMailEach([blocked], activateIn(api));
    await vi.waitFor(async () => expect(await redis.scard(redisKeys().mailAccepted)).toBe(0));
    expect(api.logs.some((line) => line.includes('the mail relay works again'))).toBe(true);
  });
});

test('a worker away for longer than ACTIVATION_KEY_TTL mails a key with its full life', async () => {
  const api = await startApp();
  const email = newAddress();
  await api.register(email);
  await vi.waitFor(async () => expect(await queue.getWaitingCount()).toBe(1));
  // An hour passes: four times the life of a key.
  const HOUR = 3_600_000;
  await database.rows(
    `UPDATE mail_outbox SET created_at = created_at - interval '1 hour', published_at = published_at - interval '1 hour'`,
  );
  await database.rows(`UPDATE users SET created_at = created_at - interval '1 hour' WHERE email = $1`, [email]);
  const [job] = await queue.getWaiting();
  await redis.hset(queue.toKey(job?.id ?? ''), 'timestamp', (job?.timestamp ?? 0) - HOUR);
  const mailedAfter = Date.now();
  startWorker();
  const key = await side.activationKey(email);
  const { expires_at } = (await api.get(`/v1/activations/${key}`)).json();
  expect(Date.parse(expires_at)).toBeGreaterThanOrEqual(mailedAfter + 900_000);
  expect(Date.parse(expires_at)).toBeLessThanOrEqual(Date.now() + 900_000);
  await expectOneMailEach([email], activateIn(api));
});

describe('a wrong environment stops the app, and every problem is named', () => {
  async function ends(environment: Record<string, string>) {
    const { output, process } = await startAppProcess('auth-api', environment, { ready: false });
    onTestFinished(() => process.stop().then(() => undefined));
    return { ending: await process.ended, output: output.join('\n') };
  }

  test('when all that is required is missing', async () => {
    const { ending, output } = await ends({});
    expect(ending).toEqual({ code: 1, signal: null });
    for (const name of ['DATABASE_URL', 'REDIS_URL', 'PUBLIC_URL', 'MASTER_KEY'])
      expect(output).toMatch(new RegExp(`^ +${name} is required`, 'm'));
  });

  test('when many are wrong at once, and without the value of any', async () => {
    const wrong = {
      DATABASE_URL: 'mysql://root:hunter2-of-the-database@db.example.test/latchkey',
      REDIS_URL: 'redis-host-and-secret-6f1d',
      PUBLIC_URL: 'https://auth.example.test/?token=5ecret',
      MASTER_KEY: 'bWFzdGVyLWtleS10aGF0LWlzLXRvby1zaG9ydA==',
      SIGNING_ALG: 'none',
      ACCESS_TOKEN_TTL: '10m',
      REFRESH_GRACE: '-1',
      RATE_LIMITS: 'sometimes',
      TRUSTED_PROXIES: 'everybody',
      REVOCATION_LAG_MAX_MS: '5',
      LOG_LEVEL: 'chatty',
    };
    const { ending, output } = await ends(wrong);
    expect(ending).toEqual({ code: 1, signal: null });
    for (const [name, value] of Object.entries(wrong)) {
      expect(output).toMatch(new RegExp(`^ +${name} must be `, 'm'));
      if (value.length > 4) expect(output).not.toContain(value);
    }
    for (const secret of ['hunter2', 'secret-6f1d', '5ecret', 'bWFzdGVy']) expect(output).not.toContain(secret);
  });

  test('when one is, and the rest is right', async () => {
    const { ending, output } = await ends({ ...testEnvironment(side), DATABASE_URL: 'postgresql://latchkey:hunter2@' });
    expect(ending).toEqual({ code: 1, signal: null });
    expect(output.match(/^ +[A-Z_]+ /gm)).toEqual(['  DATABASE_URL ']);
    expect(output).not.toContain('hunter2');
  });
});
