import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { inheritedEnvironment } from './environment.ts';
import { startProcess } from './processes.ts';
import { StackFailure } from './stack-failure.ts';

/**
 * Where a program of the operating system is, or undefined. A suite that needs one and has none skips its tests by name.
 *
 * @param path Folders to look in, as in PATH.
 */
export function programOnPath(name: string, path = inheritedEnvironment().PATH ?? ''): string | undefined {
  return path
    .split(delimiter)
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
    .find(isExecutable);
}

/**
 * The first of these programs on the PATH; where there is none and we are root on a system with apt, its package is
 * installed first.
 *
 * @returns The program's path, or undefined when it is missing and could not be installed.
 */
export async function ensureProgram(
  names: readonly string[],
  aptPackage: string,
  note: (line: string) => void,
  path = inheritedEnvironment().PATH ?? '',
): Promise<string | undefined> {
  const find = (): string | undefined =>
    names.map((name) => programOnPath(name, path)).find((found) => found !== undefined);
  const found = find();
  if (found !== undefined) {
    return found;
  }
  const apt = programOnPath('apt-get', path);
  if (apt === undefined || process.getuid?.() !== 0) {
    return undefined;
  }
  note(`${aptPackage} is missing: installing it with apt-get`);
  if (!(await aptInstall(apt, aptPackage, path))) {
    note(`apt-get could not install ${aptPackage}`);
  }
  return find();
}

/** Redis, or what is compatible with it. @throws StackFailure naming the ways to get it. */
export async function ensureRedis(note: (line: string) => void, path?: string): Promise<string> {
  const found = await ensureProgram(['redis-server', 'valkey-server'], 'redis-server', note, path);
  if (found === undefined) {
    throw new StackFailure(
      [
        'Redis is missing: there is no redis-server or valkey-server on the PATH, and it could not be installed from here.',
        'One of these helps:',
        '  - install it: apt install redis-server, dnf install valkey, brew install redis',
        '  - use one that runs: REDIS_URL=redis://host:6379 npm start (Redis 7.0 or later, or Valkey)',
        '  - run this as root on Debian or Ubuntu: it is then installed by itself',
      ].join('\n'),
    );
  }
  return found;
}

async function aptInstall(apt: string, aptPackage: string, path: string): Promise<boolean> {
  const run = async (...args: string[]): Promise<boolean> => {
    const { ended } = startProcess({
      command: apt,
      args,
      // RUNLEVEL=1: the package must not start a server of its own (invoke-rc.d(8)).
      env: { ...inheritedEnvironment(), PATH: path, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' },
      endSignal: 'SIGTERM',
      output: 'inherit',
    });
    return (await ended).code === 0;
  };
  const install = (): Promise<boolean> => run('install', '-y', '-qq', '--no-install-recommends', aptPackage);
  // The lists of a fresh image are empty or old.
  return (await run('update', '-qq')) && (await install());
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
