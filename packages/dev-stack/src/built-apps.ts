/** The production builds of our apps. A test run builds them once (test-stack.ts): they start with a good part less work than the sources. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { repositoryRoot } from './repository.ts';

const APPS = ['auth-api', 'mailer-worker'] as const;
type App = (typeof APPS)[number];

const folderOf = (app: App): string => join(repositoryRoot, 'apps', app);

/** What `pnpm start` runs of an app. */
export const builtApp = (app: App): string => join(folderOf(app), 'dist', 'main.js');

/** Builds both, as `pnpm build` does. @throws {Error} with what the bundler says, when it refuses. */
export async function buildApps(): Promise<void> {
  await Promise.all(
    APPS.map((app) => {
      const cwd = folderOf(app);
      const bundler = join(cwd, 'node_modules', 'rolldown', 'bin', 'cli.mjs');
      return promisify(execFile)(process.execPath, [bundler, '-c', 'rolldown.config.ts'], { cwd });
    }),
  );
}
