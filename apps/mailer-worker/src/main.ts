/** The process: reads the environment, starts the worker, stops it with grace. Nothing else touches the process. */
import { InvalidEnvironment } from '@latchkey/shared/environment';
import { createLogger } from '@latchkey/shared/logger';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { startTracing } from '@latchkey/shared/tracing';
import closeWithGrace from 'close-with-grace';
import { type Env, readEnv } from './env.ts';
import { buildWorker, CLOSE_WITHIN } from './worker.ts';

function environmentOrExit(): Env {
  try {
    return readEnv(process.env);
  } catch (error) {
    if (!(error instanceof InvalidEnvironment)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}

const env = environmentOrExit();
const logger = createLogger('mailer-worker', env.LOG_LEVEL);
const tracing = await startTracing('mailer-worker', env, logger);
const worker = buildWorker({ env, keys: redisKeys(), logger, tracing });

const flushed = () => new Promise<void>((resolve) => logger.flush(() => resolve()));

closeWithGrace({ delay: CLOSE_WITHIN + 1_000, logger }, async ({ signal, err }) => {
  if (err) logger.fatal({ err }, 'unexpected error, stopping');
  else logger.info({ signal }, 'stopping');
  await worker.close();
  await tracing?.close();
  logger.info('stopped');
  await flushed();
});

await worker.start();
