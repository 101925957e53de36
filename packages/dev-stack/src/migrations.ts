import { inheritedEnvironment } from './environment.ts';
import { startProcess } from './processes.ts';
import { migrateScript } from './repository.ts';
import { StackFailure } from './stack-failure.ts';

/**
 * Applies every migration that is missing, with the program `pnpm migrate` runs.
 *
 * @throws StackFailure with what it said when it failed.
 */
export async function applyMigrations(databaseUrl: string): Promise<void> {
  const lines: string[] = [];
  const { ended } = startProcess({
    command: process.execPath,
    // No older release is about.
    args: [migrateScript, '--contract'],
    env: { ...inheritedEnvironment(), DATABASE_URL: databaseUrl },
    endSignal: 'SIGTERM',
    output: (line) => lines.push(line),
  });
  if ((await ended).code !== 0) {
    throw new StackFailure(`The database could not be migrated:\n${lines.slice(-12).join('\n')}`);
  }
}
