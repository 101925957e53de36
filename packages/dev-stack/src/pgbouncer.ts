import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inheritedEnvironment } from './environment.ts';
import { canQuery } from './pg-client.ts';
import { onFreePort } from './ports.ts';
import { postgresRunner } from './postgres-program.ts';
import { temporaryFolder } from './processes.ts';
import { ServerProcess } from './server-process.ts';
import { ensureProgram } from './system-programs.ts';

export type RunningPgBouncer = {
  /** The same database behind the pooler. */
  through(databaseUrl: string): string;
  stop(): Promise<void>;
};

/** The program, or undefined where it is missing and can't be installed. */
export const ensurePgBouncer = (note: (line: string) => void = () => undefined): Promise<string | undefined> =>
  ensureProgram(['pgbouncer'], 'pgbouncer', note, `${inheritedEnvironment().PATH ?? ''}:/usr/sbin`);

/**
 * PgBouncer in transaction mode before a PostgreSQL, with far fewer connections than its clients have: whoever leaves something in a
 * session finds it with somebody else.
 *
 * @param serverUrl Any database of the server; all are offered, to the same user with the same password.
 * @throws {Error} when there is no PgBouncer.
 */
export async function startPgBouncer(serverUrl: string): Promise<RunningPgBouncer> {
  const command = await ensurePgBouncer();
  if (command === undefined) throw new Error('PgBouncer is missing and cannot be installed from here');
  const server = new URL(serverUrl);
  const folder = join(temporaryFolder('pgbouncer'), 'conf');
  mkdirSync(folder, { mode: 0o700 });
  const runner = postgresRunner(folder);
  const quote = (text: string): string => `"${decodeURIComponent(text).replaceAll('"', '""')}"`;
  const files = {
    'users.txt': `${quote(server.username)} ${quote(server.password)}\n`,
    'pgbouncer.ini': '',
  };
  const { port, pooler } = await onFreePort(undefined, async (candidate) => {
    files['pgbouncer.ini'] = [
      '[databases]',
      `* = host=${server.hostname} port=${server.port}`,
      '[pgbouncer]',
      ...['listen_addr = 127.0.0.1', `listen_port = ${candidate}`, 'unix_socket_dir ='],
      ...['auth_type = scram-sha-256', `auth_file = ${join(folder, 'users.txt')}`],
      ...['pool_mode = transaction', 'default_pool_size = 5', 'max_client_conn = 500', 'max_db_connections = 5'],
      // A server that is away is an error to the client as soon as its own patience ends.
      ...['server_login_retry = 1', 'server_connect_timeout = 1', 'query_wait_timeout = 2'],
      ...['ignore_startup_parameters = extra_float_digits', 'log_connections = 0', 'log_disconnections = 0', ''],
    ].join('\n');
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text, { mode: 0o600 });
    if (runner.owner) {
      const { uid, gid } = runner.owner;
      for (const path of [folder, ...Object.keys(files).map((name) => join(folder, name))]) chownSync(path, uid, gid);
      chownSync(join(folder, '..'), uid, gid);
    }
    const url = through(serverUrl, candidate);
    const pooler = new ServerProcess({
      name: 'PgBouncer',
      port: candidate,
      program: {
        ...runner.commandLine(command, [join(folder, 'pgbouncer.ini')]),
        env: { PATH: inheritedEnvironment().PATH, LC_ALL: 'C' },
        endSignal: 'SIGINT',
      },
      logFile: join(folder, '..', 'pgbouncer.log'),
      answers: () => canQuery(url),
    });
    await pooler.start();
    return { port: candidate, pooler };
  });
  return {
    through: (databaseUrl) => through(databaseUrl, port),
    stop: () => pooler.end(),
  };
}

function through(databaseUrl: string, port: number): string {
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String(port);
  return url.href;
}
