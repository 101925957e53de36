/** Two instances of the app on one set of stores, with the real worker and a mail server: for what two callers at once may meet. */
import { forget, keysOf } from '@latchkey/dev-stack/test-redis';
import { connectRedis, type RedisConnection } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { databaseProbe } from './mail-probe.ts';
import { startMailSide, startTestApp } from './test-app.ts';

export type TwoApps = Awaited<ReturnType<typeof startTwoApps>>;

/** Every request of a test file comes from one address, more of them than it may send in one window. */
export async function forgetLimits(redis: RedisConnection): Promise<void> {
  const counted = await keysOf(redis, redisKeys().rateLimit('*'));
  if (counted.length > 0) await forget(redis, counted);
}

export async function startTwoApps() {
  const side = await startMailSide();
  const [api, second, worker] = await Promise.all([startTestApp(side), startTestApp(side), side.startWorker()]);
  const database = databaseProbe(side.databaseUrl);
  const redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
  const apps = {
    side,
    api,
    second,
    /** Another one, where a test has stopped it. */
    worker,
    database,
    redis,
    async stop(): Promise<void> {
      redis.disconnect();
      await database.close();
      await Promise.all([api.close(), second.close(), apps.worker.stop()]);
      await side.stop();
    },
  };
  return apps;
}
