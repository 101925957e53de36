/** The whole set in one process group tree: what `npm start` runs, from the first folder to the last drain. */
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { type RunningApp, startApp } from './app-process.ts';
import type { Environment, StackSettings } from './environment.ts';
import { type MailCatcher, startMailCatcher } from './mail-catcher.ts';
import { claimPort, freePort } from './ports.ts';
import { type RunningPostgres, startPostgres } from './postgres.ts';
import { stopAllProcesses } from './processes.ts';
import { createProgress, elapsed, type Progress } from './progress.ts';
import { type RunningRedis, startRedis } from './redis.ts';
import { StackFailure } from './stack-failure.ts';
import { type StateFolder, takeStateFolder } from './state-folder.ts';
import type { StopRequest } from './stop-request.ts';
import { welcome } from './welcome.ts';

/** What is ours of the set; the tests of this package put stand-ins here. */
export type StackPrograms = {
  readonly api: readonly [command: string, ...args: string[]];
  readonly worker: readonly [command: string, ...args: string[]];
  /** Brings the database up to date and adds the dev client. */
  readonly prepareDatabase: (databaseUrl: string, clientId: string, clientSecret: string) => Promise<void>;
};

export type StackOptions = {
  readonly stateDir: string;
  readonly fresh: boolean;
  readonly settings: StackSettings;
  readonly programs: StackPrograms;
  readonly write: (text: string) => void;
  readonly stop: StopRequest;
};

/** Everything that runs, as it comes up, so that a stop in the middle stops what is there. */
type Parts = {
  folder?: StateFolder;
  postgres?: RunningPostgres;
  redis?: RunningRedis;
  catcher?: MailCatcher;
  apps: RunningApp[];
};

const DEFAULT_MAIL_FROM = 'Latchkey <no-reply@latchkey.example>';

/**
 * Starts everything, stays until a stop is asked for or a part dies, stops everything.
 *
 * @returns The exit code: 0 after a stop that was asked for, 1 when something failed or died; what is said already.
 */
export async function runStack(options: StackOptions): Promise<number> {
  const progress = createProgress(options.write);
  const death = Promise.withResolvers<never>();
  const parts: Parts = { apps: [] };
  const booted = boot(options, parts, progress, (message) => death.reject(new StackFailure(message)));
  // Whoever loses a race below still settles some time.
  booted.catch(() => undefined);
  death.promise.catch(() => undefined);
  try {
    await Promise.race([booted, death.promise, options.stop.asked]);
    await Promise.race([death.promise, options.stop.asked]);
    return 0;
  } catch (error) {
    options.write(
      `\n${error instanceof StackFailure ? error.message : String(error instanceof Error ? error.stack : error)}\n`,
    );
    return 1;
  } finally {
    await stopParts(parts, options.stop, progress);
  }
}

async function boot(
  options: StackOptions,
  parts: Parts,
  progress: Progress,
  onDeath: (message: string) => void,
): Promise<void> {
  const { settings, programs, stateDir } = options;
  const start = performance.now();
  const note = (line: string): void => progress.line(`    ${line}`);
  progress.line('Latchkey is starting');
  const folder = await takeStateFolder(stateDir, options.fresh, note);
  parts.folder = folder;
  await claimPorts(settings);
  const context: Context = { settings, folder, parts, progress, note, onDeath };
  const clientSecret = settings.devClientSecret ?? folder.state.devClientSecret;

  const database = databaseUrl(context);
  const redis = redisUrl(context);
  const smtp = smtpUrl(context);
  const prepared = database.then((url) =>
    progress.step('database up to date', programs.prepareDatabase(url, settings.devClientId, clientSecret)),
  );
  // The worker needs no database, so it does not wait for it; the API must not see a schema older than itself.
  const worker = Promise.all([redis, smtp]).then(([REDIS_URL, SMTP_URL]) =>
    runApp(context, 'mailer-worker', programs.worker, settings.workerPort, {
      REDIS_URL,
      SMTP_URL,
      MAIL_FROM: settings.passedOn.MAIL_FROM || DEFAULT_MAIL_FROM,
      BOARD_API_URL: settings.passedOn.BOARD_API_URL || localUrl(settings, settings.apiPort),
    }),
  );
  const api = Promise.all([database, redis, prepared]).then(([DATABASE_URL, REDIS_URL]) =>
    runApp(context, 'auth-api', programs.api, settings.apiPort, {
      DATABASE_URL,
      REDIS_URL,
      MASTER_KEY: settings.passedOn.MASTER_KEY || folder.state.masterKey,
      // Nothing is in front of it.
      SHUTDOWN_DELAY_MS: settings.passedOn.SHUTDOWN_DELAY_MS || '0',
    }),
  );
  await Promise.all([worker, api]);
  savePorts(folder, parts);
  progress.line(`Latchkey is running, ready in ${elapsed(start)}`);
  options.write(
    welcome({
      api: `http://localhost:${settings.apiPort}`,
      inbox: parts.catcher?.webUrl,
      board: `http://localhost:${settings.workerPort}/board`,
      clientId: settings.devClientId,
      clientSecret,
      logs: folder.logs,
    }),
  );
}

type Context = {
  readonly settings: StackSettings;
  readonly folder: StateFolder;
  readonly parts: Parts;
  readonly progress: Progress;
  readonly note: (line: string) => void;
  readonly onDeath: (message: string) => void;
};

/** All of them before anything is started, so that a taken one costs no time. */
async function claimPorts(settings: StackSettings): Promise<void> {
  // `localhost` of the printed addresses may mean ::1, where another program may sit alone.
  const hosts = settings.host === undefined ? ['0.0.0.0', '::1'] : [settings.host];
  await claimPort(settings.apiPort, hosts, 'the API', 'API_PORT');
  await claimPort(settings.workerPort, hosts, "the mailer-worker's health and metrics", 'WORKER_PORT');
  if (settings.smtpUrl === undefined) {
    await claimPort(settings.inboxPort, [settings.host ?? '127.0.0.1'], 'the mail inbox', 'INBOX_PORT');
  }
}

async function databaseUrl({ settings, folder, parts, progress, note, onDeath }: Context): Promise<string> {
  if (settings.databaseUrl !== undefined) {
    progress.line('  · PostgreSQL: DATABASE_URL');
    return settings.databaseUrl;
  }
  const start = async (): Promise<RunningPostgres> =>
    startPostgres({
      dataDir: join(folder.path, 'postgres'),
      port: await freePort(folder.state.ports.postgres),
      note,
      onDeath: (lines) => onDeath(`PostgreSQL ended by itself. Its last lines:\n${lines}`),
    });
  parts.postgres = await progress.step('PostgreSQL', start(), ({ port }) => `on 127.0.0.1:${port}`);
  return parts.postgres.url;
}

async function redisUrl({ settings, folder, parts, progress, note, onDeath }: Context): Promise<string> {
  if (settings.redisUrl !== undefined) {
    progress.line('  · Redis: REDIS_URL');
    return settings.redisUrl;
  }
  const start = async (): Promise<RunningRedis> =>
    startRedis({
      dir: join(folder.path, 'redis'),
      port: await freePort(folder.state.ports.redis),
      path: settings.passedOn.PATH ?? '',
      note,
      onDeath: (lines) => onDeath(`Redis ended by itself. Its last lines:\n${lines}`),
    });
  parts.redis = await progress.step('Redis', start(), ({ port }) => `on 127.0.0.1:${port}`);
  return parts.redis.url;
}

async function smtpUrl({ settings, folder, parts, progress }: Context): Promise<string> {
  if (settings.smtpUrl !== undefined) {
    progress.line('  · mail: SMTP_URL');
    return settings.smtpUrl;
  }
  const start = async (): Promise<MailCatcher> =>
    startMailCatcher({
      smtpPort: await freePort(folder.state.ports.smtp),
      webPort: settings.inboxPort,
      webHost: settings.host,
      dir: join(folder.path, 'mails'),
    });
  parts.catcher = await progress.step('mail catcher', start(), ({ smtpPort }) => `on 127.0.0.1:${smtpPort}`);
  return parts.catcher.smtpUrl;
}

async function runApp(
  { settings, folder, parts, progress, onDeath }: Context,
  name: string,
  [command, ...args]: StackPrograms['api'],
  port: number,
  env: Environment,
): Promise<void> {
  const started = startApp({
    name,
    command,
    args,
    env: { ...settings.passedOn, PUBLIC_URL: settings.publicUrl, ...env, PORT: String(port) },
    readyUrl: `${localUrl(settings, port)}/readyz`,
    logFile: join(folder.logs, `${name}.log`),
    show: (line) => progress.line(line),
    onDeath,
  });
  parts.apps.push(await progress.step(name, started, () => `on port ${port}`));
}

/** Where a part of the set reaches an app of it. */
function localUrl({ host }: StackSettings, port: number): string {
  if (host === undefined || host === '0.0.0.0' || host === '::') return `http://127.0.0.1:${port}`;
  return `http://${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

function savePorts(folder: StateFolder, { postgres, redis, catcher }: Parts): void {
  folder.savePorts({
    ...folder.state.ports,
    ...(postgres === undefined ? {} : { postgres: postgres.port }),
    ...(redis === undefined ? {} : { redis: redis.port }),
    ...(catcher === undefined ? {} : { smtp: catcher.smtpPort }),
  });
}

/** The apps first, while all they need to drain is there; then what they used. */
async function stopParts(parts: Parts, stop: StopRequest, progress: Progress): Promise<void> {
  const start = performance.now();
  void stop.hurried.then(() => stopAllProcesses(0));
  progress.line('Stopping');
  if (parts.apps.length > 0) {
    await progress.step('apps drained', Promise.all(parts.apps.map((app) => app.stop())));
  }
  await parts.catcher?.stop();
  await parts.redis?.stop();
  await parts.postgres?.stop();
  // What was still coming up: an app that was not ready yet, a migration, initdb.
  await stopAllProcesses();
  parts.folder?.release();
  progress.line(`Everything is stopped (${elapsed(start)})`);
}
