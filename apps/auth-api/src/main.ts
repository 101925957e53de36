/** The process: environment in, signals handled, exit code out. Everything else is app.ts. */
import { InvalidEnvironment } from '@latchkey/shared/environment';
import { createLogger } from '@latchkey/shared/logger';
import { startTracing } from '@latchkey/shared/tracing';
import closeWithGrace from 'close-with-grace';
import { buildApp } from './app.ts';
import { strengthThreads } from './domain/passwords.ts';
import { type Env, readEnv } from './env.ts';

/** Milliseconds from SIGTERM to the end, whatever hangs: below the 10 s after which container runtimes kill. */
const CLOSE_WITHIN = 9000;

function environment(): Env {
  try {
    return readEnv(process.env);
  } catch (error) {
    if (!(error instanceof InvalidEnvironment)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}

const env = environment();
const logger = createLogger('auth-api', env.LOG_LEVEL);
// Loaded beside the start of the app: the first registration should not have to wait for it.
strengthThreads();
const tracing = await startTracing('auth-api', env, logger);
const app = await buildApp({ env, logger, tracing });

closeWithGrace(
  { delay: CLOSE_WITHIN, logger: { error: (message) => logger.error(message) } },
  async ({ signal, err }) => {
    if (err) logger.fatal({ err }, 'unexpected error: stopping');
    else logger.info({ signal }, 'stopping');
    await app.close();
    await tracing?.close();
  },
);

try {
  await app.listen({ host: env.HOST, port: env.PORT });
} catch (error) {
  logger.fatal({ err: error }, 'cannot listen');
  await app.close();
  process.exit(1);
}
