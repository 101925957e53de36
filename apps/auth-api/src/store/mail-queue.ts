/** The API's side of the queue: adds jobs, asks whether they still exist, hears which mails were accepted. */
import { MAIL_JOB_OPTIONS, MAIL_QUEUE } from '@latchkey/shared/mail-jobs';
import type { RedisKeys } from '@latchkey/shared/redis-keys';
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { OwedMail } from './outbox.ts';

export type MailQueue = ReturnType<typeof createMailQueue>;

/** Acceptances taken at once. */
const BATCH = 1000;

/** @param redis with the profile `queueProducer`: a call fails at once while Redis is away. */
export function createMailQueue(redis: Redis, keys: RedisKeys, onError: (error: Error) => void) {
  const queue = new Queue(MAIL_QUEUE, { connection: redis, prefix: keys.mailQueuePrefix });
  queue.on('error', onError);

  return {
    /** Adds jobs; one whose id is in the queue already is left as it is. */
    async add(mails: readonly OwedMail[]): Promise<void> {
      // BullMQ would wait for the first connection for as long as it takes, and the relay, its transaction and the end of the app with it.
      if (redis.status !== 'ready') throw new Error('Redis connection is not ready');
      await queue.addBulk(
        mails.map(({ id, name, payload }) => ({ name, data: payload, opts: { ...MAIL_JOB_OPTIONS, jobId: id } })),
      );
    },

    /** Those of the ids that are in no state of the queue: the job was lost with Redis. */
    async missing(ids: readonly string[]): Promise<string[]> {
      const states = await Promise.all(ids.map((id) => queue.getJobState(id)));
      return ids.filter((_, index) => states[index] === 'unknown');
    },

    /** Mails a mail server has accepted and nobody has acknowledged yet. */
    accepted: (): Promise<string[]> => redis.srandmember(keys.mailAccepted, BATCH),

    /** Acknowledges: their outbox rows are gone. */
    async acknowledge(ids: readonly string[]): Promise<void> {
      await redis.srem(keys.mailAccepted, ...ids);
    },

    /** Takes jobs out of the queue, in whatever state; one that is being sent stays. */
    async remove(ids: readonly string[]): Promise<void> {
      if (redis.status !== 'ready') throw new Error('Redis connection is not ready');
      await Promise.all(ids.map((id) => queue.remove(id)));
    },

    close: (): Promise<void> => queue.close(),
  };
}
