/** The API's side of the queue: adds jobs, asks whether they still exist, learns which mails were accepted. */

import { MAIL_JOB_OPTIONS, MAIL_QUEUE } from '@latchkey/shared/mail-jobs';
import type { RedisConnection } from '@latchkey/shared/redis-connections';
import { MAIL_LEDGER_TTL, type RedisKeys } from '@latchkey/shared/redis-keys';
import type { Tracing } from '@latchkey/shared/tracing';
import { isUuid } from '@latchkey/shared/uuid';
import { ErrorCode, type Job, Queue } from 'bullmq';
import { traced } from './mail-spans.ts';
import type { OwedMail } from './outbox.ts';

export type MailQueue = ReturnType<typeof createMailQueue>;

/** A mail in the failed set. Nothing in it is a secret: its job holds none. */
export interface FailedMail {
  id: string;
  /** Job name. */
  name: string;
  to: string | null;
  userId: string | null;
  requestId: string | null;
  /** When it was owed first. */
  createdAt: Date;
  failedAt: Date;
  /** Tries it had. */
  attempts: number;
  /** What the last try ended with, as the worker's log has it. */
  reason: string;
}

/** The longest text of a job that is shown: a reason may quote a mail server. */
const LONGEST = 500;

/** What a job says of its mail. Nobody has checked its payload: an invalid one is a reason to be here. */
function failedMail(job: Job): FailedMail {
  const payload: Record<string, unknown> = typeof job.data === 'object' && job.data !== null ? job.data : {};
  const text = (value: unknown) => (typeof value === 'string' ? value.slice(0, LONGEST) : null);
  const userId = text(payload.user_id);
  return {
    id: job.id ?? '',
    name: job.name.slice(0, LONGEST),
    to: text(payload.to),
    userId: userId !== null && isUuid(userId) ? userId : null,
    requestId: text(payload.request_id),
    createdAt: new Date(job.timestamp),
    failedAt: new Date(job.finishedOn ?? job.timestamp),
    attempts: job.attemptsMade,
    reason: text(job.failedReason) ?? '',
  };
}

/** @param redis with the profile `queueProducer`: a call fails at once while Redis is away. */
export function createMailQueue(
  redis: RedisConnection,
  keys: RedisKeys,
  onError: (error: Error) => void,
  tracing?: Tracing,
) {
  let opened: Queue | undefined;

  /**
   * The queue, once it is usable. BullMQ prepares a queue once, with its first connection, and a preparation that fails stays failed: then
   * another queue is made with the next call.
   */
  async function queue(): Promise<Queue> {
    // BullMQ would wait for the first connection for as long as it takes, and the relay, its transaction and the end of the app with it.
    if (redis.status !== 'ready') throw new Error('Redis connection is not ready');
    if (opened === undefined) {
      opened = new Queue(MAIL_QUEUE, { connection: redis, prefix: keys.mailQueuePrefix });
      opened.on('error', onError);
    }
    const current = opened;
    try {
      await current.waitUntilReady();
      return current;
    } catch (error) {
      if (opened === current) opened = undefined;
      throw error;
    }
  }

  async function remove(ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return;
    const open = await queue();
    await Promise.all(ids.map((id) => open.remove(id)));
  }

  /** @returns false when a worker holds it: then it stays. */
  async function takeOut(id: string): Promise<boolean> {
    const open = await queue();
    return (await open.remove(id)) === 1 || (await open.getJobState(id)) === 'unknown';
  }

  async function add(mails: readonly OwedMail[]): Promise<void> {
    const jobs = mails.map(({ id, name, payload, createdAt }) => ({
      name,
      data: payload,
      // The age of a job is that of its mail, however late or often it is published.
      opts: { ...MAIL_JOB_OPTIONS, jobId: id, timestamp: createdAt.getTime() },
    }));
    await (await queue()).addBulk(jobs);
  }

  return {
    /** Adds jobs; one whose id is in the queue already is left as it is. */
    add: tracing ? traced(tracing, MAIL_QUEUE, add) : add,

    /** Takes jobs out that are not being worked on. @throws what Redis throws. */
    remove,

    /**
     * Stops mails that are no longer owed: marks them withdrawn in the send ledger, which the worker checks last before DATA, and removes their
     * jobs. Only a mail whose data is on its way right now still arrives, with a link that is dead.
     * @returns those whose jobs are gone. One that a worker holds stays, and with it an address, until its try is over.
     * @throws what Redis throws.
     */
    async withdraw(ids: readonly string[]): Promise<string[]> {
      await Promise.all(ids.map((id) => redis.set(keys.mailLedger(id), 'withdrawn', 'EX', MAIL_LEDGER_TTL)));
      const gone = await Promise.all(ids.map(takeOut));
      return ids.filter((_, index) => gone[index]);
    },

    /** Those of the ids that are in no state of the queue: the job was lost with Redis. */
    async missing(ids: readonly string[]): Promise<string[]> {
      const open = await queue();
      const states = await Promise.all(ids.map((id) => open.getJobState(id)));
      return ids.filter((_, index) => states[index] === 'unknown');
    },

    /** A page of the failed set, the last to fail first. @param skip how many came before it. */
    async listFailed({ skip, limit }: { skip: number; limit: number }): Promise<FailedMail[]> {
      const jobs = await (await queue()).getFailed(skip, skip + limit - 1);
      // A job that is taken out meanwhile reads as undefined.
      return jobs.filter((job) => job !== undefined).map(failedMail);
    },

    /** One of the failed set. */
    async findFailed(id: string): Promise<FailedMail | undefined> {
      const open = await queue();
      const [state, job] = await Promise.all([open.getJobState(id), open.getJob(id)]);
      return job && state === 'failed' ? failedMail(job) : undefined;
    },

    /** Puts a failed job back into the queue, as one that has not been tried. @returns whether it was in the failed set. */
    async retryFailed(id: string): Promise<boolean> {
      const job = await (await queue()).getJob(id);
      if (!job) return false;
      try {
        await job.retry('failed', { resetAttemptsMade: true, resetAttemptsStarted: true });
        return true;
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === ErrorCode.JobNotInState) return false;
        if (error instanceof Error && 'code' in error && error.code === ErrorCode.JobNotExist) return false;
        throw error;
      }
    },

    /** Takes one job out, whatever its state. */
    takeOut,

    /** Mails a mail server has accepted and nobody has acknowledged yet, `most` of them at most. */
    accepted: (most: number): Promise<string[]> => redis.srandmember(keys.mailAccepted, most),

    /** Acknowledges: their outbox rows are gone. */
    async acknowledge(ids: readonly string[]): Promise<void> {
      await redis.srem(keys.mailAccepted, ...ids);
    },

    close: async (): Promise<void> => opened?.close(),
  };
}
