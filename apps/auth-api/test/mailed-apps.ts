/** Two instances of the app on one set of stores, one that limits and one that does not, with the real worker and a mail server. */
import { connectRedis } from '@latchkey/shared/redis-connections';
import { expect } from 'vitest';
import { expectProblem } from './expect-problem.ts';
import { databaseProbe, keysMailed } from './mail-probe.ts';
import { startMailSide, startTestApp } from './test-app.ts';
import { forgetLimits } from './two-apps.ts';

export type MailedApps = Awaited<ReturnType<typeof startMailedApps>>;

export async function startMailedApps() {
  const side = await startMailSide();
  const [limited, unlimited, worker] = await Promise.all([
    startTestApp(side),
    startTestApp({ ...side, env: { RATE_LIMITS: 'off' } }),
    side.startWorker(),
  ]);
  const database = databaseProbe(side.databaseUrl);
  const redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);

  return {
    side,
    limited,
    unlimited,
    worker,
    database,

    activate: (key: string) => unlimited.post(`/v1/activations/${key}`),

    /** Registers and waits for the key, so that it is known whose it is. */
    async registered(email: string, password: string): Promise<string> {
      const before = keysMailed(side.mail, email).length;
      expect((await unlimited.register(email, password)).statusCode).toBe(202);
      return side.activationKey(email, before + 1);
    },

    /** One account, and of all passwords only one logs in. */
    async expectOnlyLogin(email: string, winner: string, losers: string[]): Promise<void> {
      expect((await database.users(email)).filter(({ status }) => status !== 'pending')).toHaveLength(1);
      expect((await unlimited.login(email, winner)).statusCode).toBe(200);
      for (const loser of losers)
        expectProblem(await unlimited.login(email, loser), { status: 401, code: 'invalid_credentials' });
    },

    forgetLimits: () => forgetLimits(redis),

    async stop(): Promise<void> {
      redis.disconnect();
      await database.close();
      await Promise.all([limited.close(), unlimited.close(), worker.stop()]);
      await side.stop();
    },
  };
}
