/** The release before this one, as it was built: `pnpm record-release` makes the file, at each release. */
import { execFileSync } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '@latchkey/dev-stack/processes';
import { repositoryRoot } from '@latchkey/dev-stack/repository';

const FILE = join(repositoryRoot, 'packages/shared/test/fixtures/previous-release.tgz');

/** @returns the program of each app. What it needs from the registry is what this release needs. */
export function previousRelease() {
  const folder = temporaryFolder('previous-release');
  execFileSync('tar', ['-xzf', FILE, '-C', folder]);
  const program = (app: 'auth-api' | 'mailer-worker') => {
    symlinkSync(join(repositoryRoot, 'apps', app, 'node_modules'), join(folder, app, 'node_modules'));
    return join(folder, app, 'dist/main.js');
  };
  return { api: program('auth-api'), worker: program('mailer-worker') };
}
