/** The app and the real worker with a mail server that refuses for good whom it is told to. */
import { type SmtpRejection, startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { startRedis } from '@latchkey/dev-stack/redis';
import { MAIL_QUEUE } from '@latchkey/shared/mail-jobs';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { Queue } from 'bullmq';
import { vi } from 'vitest';
import { addClient, clientToken } from './clients.ts';
import { databaseProbe } from './mail-probe.ts';
import { newAddress, startMailSide, startTestApp } from './test-app.ts';

export type RefusingMail = Awaited<ReturnType<typeof startRefusingMail>>;

/** @param workerEnv what the worker gets besides. */
export async function startRefusingMail(workerEnv: Record<string, string> = {}) {
  const refused = new Map<string, SmtpRejection>();
  const inbox = await startMailCatcher({
    reject: (phase, session) => {
      const [last] = session.envelope.rcptTo.slice(-1);
      return phase === 'data' && last ? refused.get(last.address) : undefined;
    },
  });
  const server = await startRedis();
  const side = await startMailSide({ SMTP_URL: inbox.smtpUrl, ...workerEnv }, server);
  const [api, worker] = await Promise.all([
    startTestApp({ ...side, relay: { lostAfter: 0, searchEvery: 1 } }),
    side.startWorker(),
  ]);
  const admin = await addClient(side.databaseUrl, 'admin');
  const token = await clientToken(api, admin);
  const database = databaseProbe(side.databaseUrl);
  const redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
  const queue = new Queue(MAIL_QUEUE, { connection: redis, prefix: redisKeys().mailQueuePrefix });
  queue.on('error', () => undefined);

  /** The outbox id of the one mail owed to an address. */
  async function owedTo(to: string): Promise<string | undefined> {
    const rows = await database.rows<{ id: string }>(`SELECT id FROM mail_outbox WHERE payload->>'to' = $1`, [to]);
    return rows[0]?.id;
  }

  return {
    side,
    /** The one Redis of all, to freeze. */
    server,
    inbox,
    api,
    worker,
    admin,
    token,
    database,
    redis,
    queue,
    refused,
    owedTo,

    act: (method: 'GET' | 'POST' | 'DELETE', url: string) =>
      api.call(method, `/v1/admin${url}`, undefined, { authorization: `Bearer ${token}` }),

    /** A registration whose mail is in the failed set. */
    async failedMail() {
      const to = newAddress();
      refused.set(to, { code: 550, message: 'no such user' });
      await api.register(to);
      const id = await vi.waitFor(
        async () => {
          const found = await owedTo(to);
          if (found === undefined || (await queue.getJobState(found)) !== 'failed') throw new Error('has not failed');
          return found;
        },
        { timeout: 10_000, interval: 20 },
      );
      return { to, id };
    },

    /** What operators did to a mail, the oldest first. */
    acts: (id: string) =>
      database.rows<{ type: string; actor_id: string; details: Record<string, string> }>(
        `SELECT type, actor_id, details FROM audit_events WHERE details->>'mail_id' = $1 ORDER BY id`,
        [id],
      ),

    /** Waits until nothing is owed to an address. */
    settled: (to: string) =>
      vi.waitFor(
        async () => {
          if ((await owedTo(to)) !== undefined) throw new Error('is still owed');
        },
        { timeout: 10_000, interval: 20 },
      ),

    async stop(): Promise<void> {
      await Promise.all([api.close(), worker.stop(), database.close(), queue.close()]);
      redis.disconnect();
      await Promise.all([side.stop(), inbox.stop()]);
    },
  };
}
