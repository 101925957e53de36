import { inheritedEnvironment } from './environment.ts';
import { startProcess } from './processes.ts';
import { migrateScript } from './repository.ts';
import { StackFailure } from './stack-failure.ts';

/**
 * Applies the migrations that are missing, with the program `pnpm migrate` runs.
 *
 * @param contract Whether also those that take away what the release before needs: only where none of it is about.
 * @throws StackFailure with what it said when it failed.
 */
export async function applyMigrations(databaseUrl: string, { contract = true } = {}): Promise<void> {
  const lines: string[] = [];
  const { ended } = startProcess({
    command: process.execPath,
    args: [migrateScript, ...(contract ? ['--contract'] : [])],
    env: { ...inheritedEnvironment(), DATABASE_URL: databaseUrl },
    endSignal: 'SIGTERM',
    output: (line) => lines.push(line),
  });
  if ((await ended).code !== 0) {
    throw new StackFailure(`The database could not be migrated:\n${lines.slice(-12).join('\n')}`);
  }
}
