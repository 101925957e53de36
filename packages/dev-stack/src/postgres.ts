import { realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { inheritedEnvironment } from './environment.ts';
import { canQuery, withClient } from './pg-client.ts';
import { onFreePort } from './ports.ts';
import { clearStalePid, POSTGRES_USER, prepareDataFolder } from './postgres-data.ts';
import { postgresBinaries, postgresRunner } from './postgres-program.ts';
import { temporaryFolder } from './processes.ts';
import { ServerProcess } from './server-process.ts';

export type PostgresOptions = {
  /** Kept between runs; without it, a temporary folder that goes with this process. */
  readonly dataDir?: string;
  /** Default: a free one. */
  readonly port?: number | undefined;
  /** The database of `url`, made if it is missing. Default: `latchkey`. */
  readonly database?: string;
  /** false: nothing is flushed to disk, for data nobody needs after a power cut. Default: true. */
  readonly durable?: boolean;
  /** Default: 200, enough for a few apps and a suite with several files at once. */
  readonly maxConnections?: number;
  /** Of sessions that do not choose one (default: UTC). */
  readonly timezone?: string;
  /** Told what took a while and why. */
  readonly note?: (line: string) => void;
  /** Told, with the last lines of the log, when the server ends without having been asked to. */
  readonly onDeath?: (lastLines: string) => void;
};

export type RunningPostgres = {
  /** Of the application's database. */
  readonly url: string;
  /** Of the database `postgres`, as superuser: from here others are created. */
  readonly adminUrl: string;
  readonly port: number;
  readonly dataDir: string;
  /** Fast shutdown: connections are cut, data is safe. */
  stop(): Promise<void>;
  /** As a crash: connections are cut, no checkpoint; `start` recovers from the write-ahead log. */
  kill(): Promise<void>;
  /** After `stop` or `kill`: the same server on the same port and data. */
  start(): Promise<void>;
};

/**
 * Starts a real PostgreSQL on 127.0.0.1, initialising its data folder first where needed, and resolves when it answers
 * queries. It ends with this process, however that ends.
 *
 * @throws StackFailure naming the way out: port taken, folder half initialised, root without a way to step down.
 */
export async function startPostgres(options: PostgresOptions = {}): Promise<RunningPostgres> {
  const dataDir = options.dataDir ?? join(temporaryFolder('postgres'), 'data');
  const binaries = await postgresBinaries();
  const runner = postgresRunner(dataDir);
  const password = await prepareDataFolder(dataDir, binaries, runner, options.note ?? (() => undefined));
  const realDataDir = realpathSync(dataDir);
  const urlOf = (port: number, database: string): string =>
    `postgresql://${POSTGRES_USER}:${password}@127.0.0.1:${port}/${database}`;

  const { port, server } = await onFreePort(options.port, async (candidate) => {
    const server = new ServerProcess({
      name: 'PostgreSQL',
      port: candidate,
      program: {
        ...runner.commandLine(binaries.postgres, serverArguments(realDataDir, candidate, options)),
        env: { PATH: inheritedEnvironment().PATH, LC_ALL: 'C' },
        endSignal: 'SIGINT',
      },
      logFile: join(dirname(realDataDir), 'postgres.log'),
      answers: () => canQuery(urlOf(candidate, 'postgres')),
      onDeath: options.onDeath,
    });
    await clearStalePid(realDataDir);
    await server.start();
    return { port: candidate, server };
  });
  const database = options.database ?? 'latchkey';
  await createDatabase(urlOf(port, 'postgres'), database);
  return {
    url: urlOf(port, database),
    adminUrl: urlOf(port, 'postgres'),
    port,
    dataDir,
    stop: () => server.end(),
    kill: () => server.end('SIGQUIT'),
    async start() {
      await clearStalePid(realDataDir);
      await server.start();
    },
  };
}

function serverArguments(dataDir: string, port: number, options: PostgresOptions): string[] {
  const settings = {
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: options.maxConnections ?? 200,
    timezone: options.timezone ?? 'UTC',
    log_timezone: 'UTC',
    ...((options.durable ?? true) ? {} : { fsync: 'off', full_page_writes: 'off' }),
  };
  return ['-D', dataDir, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
}

/** Creates a database unless it exists. The name is quoted, so any name is safe. */
async function createDatabase(adminUrl: string, name: string): Promise<void> {
  await withClient(adminUrl, async (client) => {
    const { rowCount } = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
    if (rowCount === 0) {
      await client.query(`CREATE DATABASE ${client.escapeIdentifier(name)}`);
    }
  });
}
