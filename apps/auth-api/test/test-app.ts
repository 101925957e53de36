/** Starts the real app, as production does, on real PostgreSQL, Redis and, where a test wants mail, the real worker and a mail server. */

import { randomBytes } from 'node:crypto';
import { builtApp } from '@latchkey/dev-stack/built-apps';
import { type MailCatcherOptions, startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { freePort } from '@latchkey/dev-stack/ports';
import { startProcess } from '@latchkey/dev-stack/processes';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { startTestRedis, type TestRedis } from '@latchkey/dev-stack/test-redis';
import type {} from '@latchkey/dev-stack/test-stack';
import { createLogger } from '@latchkey/shared/logger';
import type { InjectOptions } from 'fastify';
import pg from 'pg';
import { inject, onTestFinished, vi } from 'vitest';
import { type AppOptions, buildApp } from '../src/app.ts';
import { readEnv } from '../src/env.ts';

export const PASSWORD = 'correct horse battery staple';
export const PUBLIC_URL = 'https://auth.example.test';
export const MASTER_KEY = Buffer.alloc(32, 7);

/** An address no other test uses. */
export const newAddress = (name = 'ada') => `${name}-${randomBytes(6).toString('hex')}@example.test`;

/** Where the app's stores are; a test that kills a server brings its own. */
export interface Stores {
  databaseUrl: string;
  redisUrl: string;
}

export interface TestAppOptions extends Partial<Stores> {
  env?: Record<string, string>;
  namespace?: string;
  relay?: NonNullable<AppOptions['relay']>;
  signingKeys?: NonNullable<AppOptions['signingKeys']>;
  /** 1 where a test takes a store away and asks how soon that is noticed. */
  patience?: number;
}

/** Milliseconds: a machine with two cores that runs every suite at once is slow, not broken. */
const READY_WITHIN = { timeout: 40_000 };

/** How many times longer than in production stores may take to answer, and news of a revocation to come, where no test asks for that. */
export const PATIENCE = 10;

/** The environment both apps of a test get. */
export function testEnvironment({ databaseUrl, redisUrl }: Stores, more: Record<string, string> = {}) {
  return {
    DATABASE_URL: databaseUrl,
    REDIS_URL: redisUrl,
    PUBLIC_URL,
    MASTER_KEY: MASTER_KEY.toString('base64'),
    HOST: '127.0.0.1',
    PORT: '0',
    LOG_LEVEL: 'info',
    STARTUP_WAIT_MAX_MS: '0',
    SHUTDOWN_DELAY_MS: '0',
    ...more,
  };
}

/**
 * The app as `main.ts` builds it, without listening; closed when the test (or, called in `beforeAll`, its suite) is over.
 * Every answer is held against the OpenAPI document: a status without a schema fails the test.
 */
export async function startTestApp({
  env = {},
  namespace,
  relay,
  signingKeys,
  patience = PATIENCE,
  ...stores
}: TestAppOptions = {}) {
  const database = stores.databaseUrl === undefined ? await createTestDatabase(inject('databaseUrl')) : undefined;
  const databaseUrl = stores.databaseUrl ?? database?.url ?? '';
  const redisUrl = stores.redisUrl ?? inject('redisUrl');
  const logs: string[] = [];
  const app = await buildApp({
    env: readEnv(
      testEnvironment({ databaseUrl, redisUrl }, { REVOCATION_LAG_MAX_MS: String(2000 * patience), ...env }),
    ),
    patience,
    logger: createLogger('auth-api', env.LOG_LEVEL ?? 'info', { write: (line) => logs.push(line) }),
    // Suites share one Redis; one with a Redis of its own uses production's names, as its worker does.
    namespace:
      namespace ?? (stores.redisUrl === undefined ? `latchkey:test-${randomBytes(6).toString('hex')}` : 'latchkey'),
    ...(relay && { relay }),
    ...(signingKeys && { signingKeys }),
  });
  const undocumented: string[] = [];
  app.addHook('onSend', async (request, reply) => {
    const { schema, url } = request.routeOptions;
    const answers = schema?.response as Record<string, unknown> | undefined;
    if (answers && !(reply.statusCode in answers)) undocumented.push(`${request.method} ${url} ${reply.statusCode}`);
  });
  await app.ready();
  // The first read of the revocation log: until then every token is refused.
  await vi.waitFor(async () => {
    const { json } = await app.inject('/readyz');
    const { checks } = json();
    if (checks.revocations.status !== 'up') throw new Error('the revocation copy is not complete');
  }, READY_WITHIN);

  const call = (method: InjectOptions['method'], url: string, payload?: object, headers: Record<string, string> = {}) =>
    app.inject({ method: method ?? 'GET', url, headers, ...(payload && { payload }) });

  return {
    app,
    logs,
    databaseUrl,
    redisUrl,
    undocumented,
    call,
    get: (url: string, token?: string) => call('GET', url, undefined, bearer(token)),
    post: (url: string, payload: object = {}) => call('POST', url, payload),
    delete: (url: string, token?: string) => call('DELETE', url, undefined, bearer(token)),
    register: (email: string, password = PASSWORD) => call('POST', '/v1/users', { email, password }),
    login: (email: string, password = PASSWORD, device_name?: string) =>
      call('POST', '/v1/tokens', { email, password, ...(device_name !== undefined && { device_name }) }),
    /** Every row of every table as text. */
    async dumpDatabase(): Promise<string[]> {
      const client = new pg.Client({ connectionString: databaseUrl });
      await client.connect();
      try {
        const tables = await client.query<{ name: string }>(
          `SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public'`,
        );
        const dump: string[] = [];
        for (const { name } of tables.rows) {
          const { rows } = await client.query<{ row: string }>(`SELECT t::text AS row FROM ${name} t`);
          dump.push(...rows.map(({ row }) => row));
        }
        return dump;
      } finally {
        await client.end();
      }
    },
    async close() {
      await app.close();
      await database?.drop();
      if (undocumented.length > 0) throw new Error(`answers without a schema: ${undocumented.join(', ')}`);
    },
  };
}

export type TestApp = Awaited<ReturnType<typeof startTestApp>>;

const bearer = (token?: string): Record<string, string> =>
  token === undefined ? {} : { authorization: `Bearer ${token}` };

/** {@link startTestApp} for one test: closed when it is over. */
export async function testApp(options?: TestAppOptions): Promise<TestApp> {
  const started = await startTestApp(options);
  onTestFinished(() => started.close());
  return started;
}

/** NODE_OPTIONS of a process that prints each module of OpenTelemetry as it is loaded. */
export const TELLS_MODULES = `--import=data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module';
  registerHooks({
    load(url, context, next) {
      if (url.includes('@opentelemetry')) console.log('LOADED', url);
      return next(url, context);
    },
  });`)}`;

/** Those of the SDK: its API is a part of prom-client too. */
export const sdkModules = (output: readonly string[]): string[] =>
  output.filter((line) => /^LOADED .*@opentelemetry\/(?!api\/)/.test(line));

/**
 * Runs the production build of one of our apps, or another program of it, in a process of its own.
 * @returns once `/readyz` answers 200, unless `ready` is false.
 */
export async function startAppProcess(
  name: 'auth-api' | 'mailer-worker',
  env: Record<string, string>,
  { ready = true, port: given, program = builtApp(name) }: { ready?: boolean; port?: number; program?: string } = {},
) {
  const port = given ?? (await freePort());
  const url = `http://127.0.0.1:${port}`;
  const output: string[] = [];
  const process = startProcess({
    command: globalThis.process.execPath,
    args: [program],
    env: { PATH: globalThis.process.env.PATH, ...env, PORT: String(port) },
    endSignal: 'SIGTERM',
    output: (line) => output.push(line),
  });
  if (ready) {
    await vi.waitFor(
      async () => {
        const response = await fetch(`${url}/readyz`).catch(() => undefined);
        if (response?.status !== 200) throw new Error(`${name} is not ready:\n${output.slice(-5).join('\n')}`);
      },
      { ...READY_WITHIN, interval: 50 },
    );
  }
  return { url, port, output, process, stop: () => process.stop() };
}

/** Stores of a suite's own, a mail server and the real worker: what turns a registration into a mail. */
export async function startMailSide(
  workerEnv: Record<string, string> = {},
  ownRedis?: TestRedis,
  mailServer: MailCatcherOptions = {},
) {
  const [redis, mail, database] = await Promise.all([
    ownRedis ?? startTestRedis(),
    startMailCatcher(mailServer),
    createTestDatabase(inject('databaseUrl')),
  ]);
  const environment = {
    REDIS_URL: redis.url,
    SMTP_URL: mail.smtpUrl,
    MAIL_FROM: 'Latchkey <no-reply@example.test>',
    PUBLIC_URL,
    HOST: '127.0.0.1',
    LOG_LEVEL: 'info',
    ...workerEnv,
  };
  const startWorker = (program?: string) =>
    startAppProcess('mailer-worker', environment, program === undefined ? {} : { program });
  return {
    redis,
    mail,
    databaseUrl: database.url,
    redisUrl: redis.url,
    startWorker,
    /** The key of the newest activation mail to an address, once `count` mails have come. */
    async activationKey(to: string, count = 1): Promise<string> {
      const { text } = await mail.waitFor(to, { count });
      const key = text.match(/\/activate\/([A-Za-z0-9]{32})/)?.[1];
      if (key === undefined) throw new Error(`no activation link in the mail to ${to}`);
      return key;
    },
    async stop() {
      await Promise.all([redis.stop(), mail.stop()]);
      await database.drop();
    },
  };
}
