/** The worker put together: queue, delivery, health and metrics. Tests start it as production does. */
import { setTimeout as wait } from 'node:timers/promises';
import { MAIL_QUEUE, mailBackoff } from '@latchkey/shared/mail-jobs';
import { connectRedis, type RedisConnection } from '@latchkey/shared/redis-connections';
import type { RedisKeys } from '@latchkey/shared/redis-keys';
import type { Tracing } from '@latchkey/shared/tracing';
import { type Job, Queue, Worker } from 'bullmq';
import type { Logger } from 'pino';
import { createBoard } from './board.ts';
import { createComposer } from './composer.ts';
import { createDelivery } from './deliver.ts';
import { dkimOf, type Env, themeOf } from './env.ts';
import { createHealth, evictionWarning } from './health.ts';
import { createJobReporter } from './job-report.ts';
import { createMailKeys } from './mail-keys.ts';
import { createMailServerWatch } from './mail-server-watch.ts';
import { createMails } from './mails.ts';
import { createMetrics, type QueueState } from './metrics.ts';
import { createOpsServer } from './ops.ts';
import { createOutageLog } from './outage-log.ts';
import { type Pacing, type Patience, pacing, SLOW_MAIL, shareConnections } from './pacing.ts';
import { createSendLedger } from './send-ledger.ts';
import { createSlowMails } from './slow-mails.ts';
import { createMailTransport } from './smtp.ts';
import { measureSurroundings } from './surroundings.ts';
import { createJobTaker, SetAside } from './take-job.ts';

/**
 * Milliseconds. The mail of a worker that was killed is taken up within LOCK + STALL_CHECK: long enough that a short outage of Redis does not
 * hand a job that is still being sent to a second worker, short enough for a person who waits for a mail.
 */
const LOCK = 20_000;
const STALL_CHECK = 5_000;

/**
 * Milliseconds the mails in flight have to finish when the worker is told to stop, and then to go back to the queue: together inside the
 * 10 s after which `docker stop` kills.
 */
const DRAIN = 7_000;
const LET_GO = 2_000;

/** Milliseconds after which the `close` of a worker has let go of everything; whoever waits for it adds a little. */
export const CLOSE_WITHIN = DRAIN + LET_GO;

/** Jobs of the queue that are looked through, so many at a time, for one that no worker has taken yet: before it stand those that came back. */
const LOOKED_THROUGH = { most: 2000, page: 200 };

/** Milliseconds the queue's depth may take: a scrape must not hang on Redis. */
const DEPTH_WITHIN = 1_000;

export interface WorkerSetup {
  readonly env: Env;
  readonly keys: RedisKeys;
  readonly logger: Logger;
  /** Undefined: traces are off. */
  readonly tracing?: Tracing | undefined;
  /** Milliseconds to wait after so many attempts. */
  readonly backoff?: (attemptsMade: number) => number;
  readonly pace?: Pacing;
  readonly patience?: Patience;
}

/** A worker that has not started: `start()` begins to take jobs, `app` serves health and metrics. */
export function buildWorker(setup: WorkerSetup) {
  const { env, keys, logger, tracing, backoff = mailBackoff } = setup;
  const { pace = pacing(env.MAIL_DOMAIN_RATE), patience = SLOW_MAIL } = setup;
  const outage = createOutageLog(logger);
  const redis = connectRedis(env.REDIS_URL, 'queueWorker', (error) => outage('redis', error));
  // Health and metrics must not wait for ever with the queue.
  const probe = connectRedis(env.REDIS_URL, 'store', (error) => outage('redis', error));
  probe.on('ready', () => void warnOfEviction(probe, logger));
  const transport = createMailTransport(env.SMTP_URL, dkimOf(env));
  const { slots, mostSetAside } = shareConnections(transport.connections, env.WORKER_CONCURRENCY);
  const mailKeys = createMailKeys(redis, keys, {
    activates: env.ACTIVATION_KEY_TTL,
    renews: env.ACTIVATION_RENEWAL_TTL,
  });
  const ledger = createSendLedger(redis, keys, pace);
  const deliver = createDelivery({
    ledger,
    mailKeys,
    compose: createComposer(
      createMails(env.PUBLIC_URL, env.ACTIVATION_KEY_TTL, themeOf(env)),
      env.MAIL_FROM,
      env.PUBLIC_URL,
    ),
    transport,
    tracing,
  });

  const queueOptions = { connection: redis, prefix: keys.mailQueuePrefix };
  const queue = new Queue(MAIL_QUEUE, { ...queueOptions, skipMetasUpdate: true });
  queue.on('error', (error) => outage('queue', error));
  const metrics = createMetrics(async () => {
    if (probe.status !== 'ready') throw new Error('Redis is away');
    const tooLong = wait(DEPTH_WITHIN, undefined, { ref: false }).then(() =>
      Promise.reject(new Error('Redis is slow')),
    );
    return Promise.race([queueState(queue), tooLong]);
  });

  const worker = new Worker(MAIL_QUEUE, (job: Job, token: string | undefined) => jobs.take(job, token), {
    ...queueOptions,
    autorun: false,
    concurrency: slots,
    lockDuration: LOCK,
    stalledInterval: STALL_CHECK,
    // After a lost connection; BullMQ's 15 s are more than the 10 s within which a worker goes on.
    runRetryDelay: 1_000,
    // A worker that dies says nothing about the mail: never give it up for that.
    maxStalledCount: Number.MAX_SAFE_INTEGER,
    settings: {
      // A mail set aside comes back no sooner than its conversation has ended; later, if it is as late as any other would be.
      backoffStrategy: (attemptsMade, _type, error) =>
        Math.max(backoff(attemptsMade), error instanceof SetAside ? patience.comesBackAfter : 0),
    },
  });
  const server = createMailServerWatch({
    verify: transport.verify,
    // Not waiting for the jobs under way: it is one of them that asks.
    pause: () => void worker.pause(true),
    resume: () => void worker.resume(),
    logger,
  });
  const jobs = createJobTaker({
    deliver,
    ledger,
    server,
    report: createJobReporter({ metrics, logger, tracing }),
    patience,
    slow: createSlowMails(mostSetAside),
  });
  worker.on('error', (error) => outage('queue', error));
  worker.on('stalled', (id) => logger.warn({ mail_id: id }, 'taking up the mail of a worker that went away'));

  const health = createHealth(probe, transport.verify, logger);
  measureSurroundings(metrics.registry, health, () => probe.scard(keys.mailAccepted));
  const board =
    env.BOARD_API_URL === undefined
      ? undefined
      : createBoard({
          apiUrl: env.BOARD_API_URL,
          redis: probe,
          prefix: keys.mailQueuePrefix,
          onError: (error) => outage('queue', error),
        });
  const app = createOpsServer(logger, health, metrics.registry, board);

  return {
    /** Fastify with `/livez`, `/readyz` and `/metrics`. */
    app,

    /** Listens and begins to take jobs; does not wait for Redis or the mail server, both may come later. */
    async start(): Promise<void> {
      await app.listen({ host: env.HOST, port: env.PORT });
      worker.run().catch((error: unknown) => logger.error({ err: error }, 'the queue stopped'));
      logger.info({ concurrency: slots }, 'taking mails');
    },

    /**
     * Takes no more jobs, lets the mails in flight, those set aside too, finish within a bound, then lets go: what is not finished by then
     * goes back to the queue, or, without Redis, is taken up by another worker once its lock has run out. Always resolves.
     */
    async close(): Promise<void> {
      server.close();
      const drained = Promise.all([worker.close(), queue.close()])
        .catch((error: unknown) => outage('queue', error))
        .then(jobs.ended);
      // Without Redis nothing can be handed back, and with no mail in flight there is nothing to wait for.
      if (!(await within(LET_GO, drained)) && jobs.underway() > 0 && !(await within(DRAIN - LET_GO, drained))) {
        logger.warn({ mails: jobs.underway() }, 'mails in flight did not finish in time, letting go of them');
        jobs.abortAll();
        await within(LET_GO, drained);
      }
      transport.close();
      await app.close();
      redis.disconnect();
      probe.disconnect();
    },
  };
}

async function queueState(queue: Queue): Promise<QueueState> {
  const [depth, oldest] = await Promise.all([
    queue.getJobCounts('waiting', 'active', 'delayed', 'failed'),
    oldestUntaken(queue),
  ]);
  return { depth, oldest: oldest === undefined ? 0 : Math.max(0, Date.now() - oldest.timestamp) };
}

/** One that was taken before has waited for a mail server or its turn since: no worker more would have helped. */
async function oldestUntaken(queue: Queue): Promise<Job | undefined> {
  const { most, page } = LOOKED_THROUGH;
  for (let from = 0; from < most; from += page) {
    const jobs = await queue.getJobs('waiting', from, from + page - 1, true);
    const untaken = jobs.find((job) => job.attemptsStarted === 0);
    // (A page may be short of jobs that were taken out meanwhile.)
    if (untaken || jobs.length === 0) return untaken;
  }
  return undefined;
}

/** Whether `task` ended within so many milliseconds. */
async function within(milliseconds: number, task: Promise<unknown>): Promise<boolean> {
  return Promise.race([
    task.then(
      () => true,
      () => true,
    ),
    wait(milliseconds, false, { ref: false }),
  ]);
}

/** Says so loudly, at each connection, when this Redis may throw mails away; a Redis that does not answer is said elsewhere. */
async function warnOfEviction(redis: RedisConnection, logger: Logger): Promise<void> {
  const warning = evictionWarning(await redis.info('memory').catch(() => ''));
  if (warning !== undefined) logger.warn(warning);
}
