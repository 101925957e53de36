/** The process: environment in, signals handled, exit code out. Everything else is app.ts. */
import { setTimeout as delay } from 'node:timers/promises';
import { InvalidEnvironment } from '@latchkey/shared/environment';
import { createLogger } from '@latchkey/shared/logger';
import { startTracing } from '@latchkey/shared/tracing';
import { keepTickShape, placeAllWithTheYoung } from '@latchkey/shared/v8';
import closeWithGrace from 'close-with-grace';
import { buildApp } from './app.ts';
import { strengthThreads } from './domain/passwords.ts';
import { type Env, readEnv } from './env.ts';

/** Milliseconds closing takes at most, whatever hangs. */
const CLOSE_WITHIN = 9000;
/** Milliseconds between two looks at whether the app is ready. */
const LOOK_EVERY = 20;

function environmentOrExit(): Env {
  try {
    return readEnv(process.env);
  } catch (error) {
    if (!(error instanceof InvalidEnvironment)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}

placeAllWithTheYoung();
keepTickShape();
const env = environmentOrExit();
const logger = createLogger('auth-api', env.LOG_LEVEL);
// Loaded beside the start of the app: the first registration should not have to wait for it.
strengthThreads();
const tracing = await startTracing('auth-api', env, logger);
let stopping = false;
const app = await buildApp({ env, logger, tracing, stopping: () => stopping });

closeWithGrace(
  { delay: env.SHUTDOWN_DELAY_MS + CLOSE_WITHIN, logger: { error: (message) => logger.error(message) } },
  async ({ signal, err }) => {
    stopping = true;
    if (err) logger.fatal({ err }, 'unexpected error: stopping');
    else logger.info({ signal }, 'stopping');
    // From the terminal nobody waits for a load balancer, and after an error nobody knows what would be served.
    if (signal === 'SIGTERM' && app.server.listening) await delay(env.SHUTDOWN_DELAY_MS);
    await app.close();
    await tracing?.close();
  },
);

/** Ready, or as long as it may take: a proxy that does not ask sends requests as soon as it is let in. */
async function settled(): Promise<void> {
  const until = performance.now() + env.STARTUP_WAIT_MAX_MS;
  while (!stopping && performance.now() < until) {
    if ((await app.inject('/readyz')).statusCode === 200) return;
    await delay(LOOK_EVERY);
  }
}

try {
  await settled();
  if (!stopping) await app.listen({ host: env.HOST, port: env.PORT });
} catch (error) {
  if (!stopping) {
    logger.fatal({ err: error }, 'cannot listen');
    await app.close();
    process.exit(1);
  }
}
