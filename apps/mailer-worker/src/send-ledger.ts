/**
 * The send ledger: how far each mail got, so that a job seen twice is not mailed twice. A job comes twice when its worker died, when its
 * lock ran out while Redis was away, or when the relay published its row again.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { MAIL_LEDGER_TTL, type RedisKeys } from '@latchkey/shared/redis-keys';
import type { Redis } from 'ioredis';

/**
 * Milliseconds for which a refused note of acceptance is tried again (Redis out of memory, a failover). A Redis that is merely away
 * costs none of it: the connection waits by itself.
 */
const RECORD_FOR = 60_000;
const RECORD_PAUSE = 250;

export function createSendLedger(redis: Redis, keys: RedisKeys) {
  /** Both keys share a hash tag, so one transaction covers them on Redis Cluster too. */
  async function record(mailId: string): Promise<void> {
    const results = await redis
      .multi()
      .set(keys.mailLedger(mailId), 'accepted', 'EX', MAIL_LEDGER_TTL)
      .sadd(keys.mailAccepted, mailId)
      .exec();
    const failed = results?.find(([error]) => error !== null)?.[0];
    if (!results || failed) throw failed ?? new Error('the transaction was discarded');
  }

  return {
    /** Whether a mail server has taken this mail. */
    async isAccepted(mailId: string): Promise<boolean> {
      return (await redis.get(keys.mailLedger(mailId))) === 'accepted';
    },

    /**
     * The last gate before SMTP: notes that the mail is about to be sent, and in the same command learns what was noted before. It never
     * overwrites `accepted`, which a worker that was frozen for a while might otherwise do.
     * @returns the earlier note: `sending` when an earlier try got this far, `accepted` when the mail must not be sent again.
     */
    async noteSending(mailId: string): Promise<'sending' | 'accepted' | undefined> {
      const before = await redis.set(keys.mailLedger(mailId), 'sending', 'EX', MAIL_LEDGER_TTL, 'NX', 'GET');
      return before === 'accepted' || before === 'sending' ? before : undefined;
    },

    /**
     * Notes that a mail server has taken the mail and tells auth-api, in one transaction. From SMTP's 250 to the end of this call is
     * the one window in which a crash mails twice, so a refused write is tried again before it counts as failed.
     */
    async recordAccepted(mailId: string): Promise<void> {
      const deadline = performance.now() + RECORD_FOR;
      for (;;) {
        try {
          return await record(mailId);
        } catch (error) {
          if (performance.now() + RECORD_PAUSE > deadline) throw error;
          await wait(RECORD_PAUSE);
        }
      }
    },
  };
}

export type SendLedger = ReturnType<typeof createSendLedger>;
