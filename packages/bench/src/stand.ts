/** What is measured and what it stands on: real stores and mail sink, the apps as processes of their own. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RunningApp, startApp } from '@latchkey/dev-stack/app-process';
import { type Environment, inheritedEnvironment } from '@latchkey/dev-stack/environment';
import { applyMigrations } from '@latchkey/dev-stack/migrations';
import { freePort } from '@latchkey/dev-stack/ports';
import { startPostgres } from '@latchkey/dev-stack/postgres';
import { temporaryFolder } from '@latchkey/dev-stack/processes';
import type { Progress } from '@latchkey/dev-stack/progress';
import { startRedis } from '@latchkey/dev-stack/redis';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import pg from 'pg';
import { HELLO_WARM_UPS, HELLOS, sayHello } from './hello.ts';
import type { Options } from './options.ts';
import { ISSUER } from './programs/control.ts';

/** SMTP connections of the worker and of the bare pool it is compared with: the default of WORKER_CONCURRENCY. */
const SMTP_CONNECTIONS = 10;

export type Program = RunningApp & { readonly url: string };

/** How much of what is measured. */
type Sizes = Pick<Options, 'sessions' | 'revocations' | 'window'>;

export type Stand = {
  readonly api: Program;
  readonly database: pg.Client;
  readonly redisUrl: string;
  /** Length of one measurement. */
  readonly seconds: number;
  /** Times that something is measured in turn with its baseline: `usual`, unless the command line says how many. */
  rounds(usual: number): number;
  readonly sizes: Sizes;
  readonly progress: Progress;
  /** Fastify that says hello and is warm: each time the next process of it. */
  hello(): Promise<Program>;
  /** One more instance of auth-api on the same stores. */
  anotherApi(): Promise<Program>;
  /** Verifies in its own process, with the revocations of this Redis. */
  inProcess(redisUrl: string): Promise<Program>;
  /** Verifies as another service does; hears of revocations from Redis, or as a client by the feed. */
  outsideVerifier(source: string, client?: Client): Promise<Program>;
  /** Threads that only hash, once. */
  argon2Pool(): Promise<Program>;
  /** The mail sink, once. */
  sink(): Promise<Program>;
  /** The worker that sends to the sink, once. */
  worker(): Promise<Program>;
  /** nodemailer's pool that sends to the sink. */
  bareMailer(): Promise<Program>;
  /** The programs first, then what they use. */
  stop(): Promise<void>;
};

/** A machine caller. */
export type Client = { readonly id: string; readonly secret: string };

/** How the apps are run, other than the benchmarks do. */
export type AppSettings = {
  /** Of Node, before the program. */
  readonly nodeArgs: readonly string[];
  readonly env: Environment;
};

type Settings = Partial<AppSettings> & { readonly args?: readonly (number | string)[] };

/**
 * Starts PostgreSQL, Redis (both flushing to disk as in production) and auth-api. What is not stopped ends with this process.
 *
 * @param onDeath Told what died, when something ends by itself.
 * @throws StackFailure with what could not be started.
 */
export async function startStand(
  { seconds, rounds, ...sizes }: Sizes & Pick<Options, 'seconds' | 'rounds'>,
  progress: Progress,
  onDeath: (message: string) => void,
  appSettings: AppSettings = { nodeArgs: [], env: {} },
): Promise<Stand> {
  const folder = temporaryFolder('bench');
  const [postgres, redis] = await progress.step(
    'PostgreSQL, Redis',
    Promise.all([
      startPostgres({ onDeath: (lines) => onDeath(`PostgreSQL ended by itself:\n${lines}`) }),
      startRedis({ dir: join(folder, 'redis'), onDeath: (lines) => onDeath(`Redis ended by itself:\n${lines}`) }),
    ]),
  );
  await progress.step('migrations', applyMigrations(postgres.url));
  const database = new pg.Client({ connectionString: postgres.url });
  database.on('error', () => undefined);
  await database.connect();

  const apps: Program[] = [];
  const run = async (name: string, script: string, settings: (port: number) => Settings): Promise<Program> => {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const { nodeArgs = [], args = [], env = {} } = settings(port);
    const app = await startApp({
      name,
      command: process.execPath,
      args: [...nodeArgs, script, ...args.map(String)],
      env: { ...inheritedEnvironment(), ...env },
      readyUrl: `${url}/readyz`,
      logFile: join(folder, `${name}.log`),
      show: (line) => progress.line(`    ${line}`),
      onDeath,
    });
    const program = { ...app, url };
    apps.push(program);
    return program;
  };
  const ours = (name: string, script: URL, ...args: (number | string)[]): Promise<Program> =>
    run(name, fileURLToPath(script), (port) => ({ args: [port, ...args] }));
  const ourApp = (name: string, env: Environment): Promise<Program> =>
    run(name, `${repositoryRoot}/apps/${name}/src/main.ts`, (port) => ({
      nodeArgs: appSettings.nodeArgs,
      env: {
        REDIS_URL: redis.url,
        PUBLIC_URL: ISSUER,
        HOST: '127.0.0.1',
        PORT: String(port),
        LOG_LEVEL: 'warn',
        SHUTDOWN_DELAY_MS: '0',
        ...appSettings.env,
        ...env,
      },
    }));

  const hellos = once(async () => {
    const programs: Program[] = [];
    while (programs.length < HELLOS) {
      const program = await ours('hello', new URL('./programs/hello.ts', import.meta.url));
      // Until each is about as warm as what it is compared with.
      for (let run = 0; run < HELLO_WARM_UPS; run += 1) await sayHello(program.url, seconds);
      programs.push(program);
    }
    return inTurn(programs);
  });

  const smtpPort = await freePort();
  const sink = once(() => ours('mail sink', new URL('./programs/mail-sink.ts', import.meta.url), smtpPort));
  const worker = once(async () => {
    await sink();
    return ourApp('mailer-worker', {
      SMTP_URL: `smtp://127.0.0.1:${smtpPort}`,
      MAIL_FROM: 'Latchkey <no-reply@example.test>',
      WORKER_CONCURRENCY: String(SMTP_CONNECTIONS),
    });
  });
  const masterKey = randomBytes(32).toString('base64');
  const startApi = () => ourApp('auth-api', { DATABASE_URL: postgres.url, MASTER_KEY: masterKey, RATE_LIMITS: 'off' });
  const api = await progress.step('auth-api', startApi());
  return {
    api,
    database,
    redisUrl: redis.url,
    seconds,
    rounds: (usual) => rounds ?? usual,
    sizes,
    progress,
    hello: async () => (await hellos()).next().value,
    anotherApi: startApi,
    inProcess: (url) => ours('in-process', new URL('./programs/in-process.ts', import.meta.url), url),
    outsideVerifier: (source, client) =>
      ours(
        'outside verifier',
        new URL('./programs/outside-verifier.ts', import.meta.url),
        api.url,
        source,
        ...(client ? [client.id, client.secret] : []),
      ),
    argon2Pool: once(() => ours('argon2 pool', new URL('./programs/argon2-pool.ts', import.meta.url))),
    sink,
    worker,
    bareMailer: async () => {
      await sink();
      return ours('bare mailer', new URL('./programs/bare-mailer.ts', import.meta.url), smtpPort, SMTP_CONNECTIONS);
    },
    async stop() {
      await Promise.all(apps.map((app) => app.stop()));
      await database.end();
      await Promise.all([postgres.stop(), redis.stop()]);
    },
  };
}

/** Asks one of our programs, or an app, for JSON. @throws Error for any other answer than 2xx. */
export async function ask<Answer>(url: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(url, init);
  if (!response.ok) {
    throw new Error(`${url} answers ${response.status} ${await response.text()}`);
  }
  return (await response.json()) as Answer;
}

function* inTurn<Item>(items: readonly Item[]): Generator<Item, never> {
  for (;;) yield* items;
}

function once<Result>(make: () => Promise<Result>): () => Promise<Result> {
  let made: Promise<Result> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
