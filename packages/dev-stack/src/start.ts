/** `npm start`: the whole set in the foreground. */
import { parseArgs } from 'node:util';
import { upsertDevClient } from './dev-client.ts';
import { inheritedEnvironment, readStackSettings } from './environment.ts';
import { applyMigrations } from './migrations.ts';
import { repositoryRoot } from './repository.ts';
import { runStack } from './stack.ts';
import { StackFailure } from './stack-failure.ts';
import { stopRequestOfProcess } from './stop-request.ts';

const USAGE = `npm start            runs the whole set in the foreground; Ctrl-C stops it
npm start -- --fresh   the same, with databases, mails and secrets made anew
`;

process.exit(await main(process.argv.slice(2)));

async function main(args: readonly string[]): Promise<number> {
  const stop = stopRequestOfProcess();
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { fresh: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
    });
    if (values.help) {
      process.stdout.write(USAGE);
      return 0;
    }
    const settings = readStackSettings(inheritedEnvironment());
    return await runStack({
      stateDir: `${repositoryRoot}/.latchkey`,
      fresh: values.fresh,
      settings,
      programs: {
        api: [process.execPath, `${repositoryRoot}/apps/auth-api/src/main.ts`],
        worker: [process.execPath, `${repositoryRoot}/apps/mailer-worker/src/main.ts`],
        async prepareDatabase(databaseUrl, clientId, clientSecret) {
          // A database of somebody's own may have an older release on it.
          await applyMigrations(databaseUrl, { contract: settings.databaseUrl === undefined });
          await upsertDevClient(databaseUrl, clientId, clientSecret);
        },
      },
      write: (text) => process.stdout.write(text),
      stop,
    });
  } catch (error) {
    if (error instanceof StackFailure || (error instanceof TypeError && 'code' in error)) {
      process.stderr.write(`${error.message}\n`);
      return 1;
    }
    throw error;
  }
}
