/** A real worker on the run's Redis and a mail catcher of its own, in a namespace of its own. */

import { randomUUID } from 'node:crypto';
import { type MailCatcherOptions, startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { forget, keysOf } from '@latchkey/dev-stack/test-redis';
import type {} from '@latchkey/dev-stack/test-stack';
import { createLogger } from '@latchkey/shared/logger';
import { MAIL_JOB_OPTIONS, MAIL_QUEUE } from '@latchkey/shared/mail-jobs';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { Queue } from 'bullmq';
import { inject, vi } from 'vitest';
import { readEnv } from '../src/env.ts';
import { buildWorker, type WorkerSetup } from '../src/worker.ts';

export const PUBLIC_URL = 'https://auth.latchkey.test';

type Hooks = { -readonly [Name in 'reject' | 'delay']?: MailCatcherOptions[Name] | undefined };

interface HarnessOptions {
  readonly env?: Record<string, string>;
  /** Another Redis than the run's. */
  readonly redisUrl?: string;
  /** Another namespace than one of its own. */
  readonly namespace?: string;
}

/** Nothing has started but the catcher; `close()` ends everything and leaves no key behind. */
export async function createHarness(options: HarnessOptions = {}) {
  const hooks: Hooks = {};
  const catcher = await startMailCatcher({
    reject: (phase, session) => hooks.reject?.(phase, session),
    delay: (phase, session) => hooks.delay?.(phase, session) ?? 0,
  });
  const redisUrl = options.redisUrl ?? inject('redisUrl');
  const namespace = options.namespace ?? `test-${randomUUID()}`;
  const keys = redisKeys(namespace);
  const redis = connectRedis(redisUrl, 'queueWorker', () => undefined);
  const queue = new Queue(MAIL_QUEUE, { connection: redis, prefix: keys.mailQueuePrefix });
  queue.on('error', () => undefined);
  const variables = {
    REDIS_URL: redisUrl,
    SMTP_URL: catcher.smtpUrl,
    MAIL_FROM: 'Latchkey <no-reply@latchkey.test>',
    PUBLIC_URL,
    HOST: '127.0.0.1',
    PORT: '0',
    ...options.env,
  };
  const logLines: string[] = [];
  const workers: ReturnType<typeof buildWorker>[] = [];

  return {
    hooks,
    catcher,
    redis,
    queue,
    keys,
    namespace,
    variables,
    logLines,

    /** Starts one as `main.ts` does, but, unless told otherwise, with no wait worth mentioning before a retry. */
    async start(setup: Pick<WorkerSetup, 'backoff' | 'pace' | 'patience' | 'tracing'> = { backoff: () => 20 }) {
      const logger = createLogger('mailer-worker', 'debug', { write: (line: string) => void logLines.push(line) });
      const worker = buildWorker({ env: readEnv(variables), keys, logger, ...setup });
      workers.push(worker);
      await worker.start();
      return worker;
    },

    /** As the relay of auth-api adds it. @returns the mail id and an address of its own. */
    async add(
      name: string,
      change: Record<string, unknown> = {},
      jobOptions: { timestamp?: number; attempts?: number } = {},
    ) {
      const id = randomUUID();
      const to = `${id}@recipient.test`;
      const payload = { ...payloadFor(name, to), ...change };
      await queue.add(name, payload, { ...MAIL_JOB_OPTIONS, ...jobOptions, jobId: id });
      return { id, to, payload };
    },

    /** Waits until auth-api would learn that the mail was accepted and the job is gone. */
    async settled(id: string): Promise<void> {
      await vi.waitFor(
        async () => {
          if ((await redis.sismember(keys.mailAccepted, id)) !== 1) throw new Error(`${id} is not reported`);
          if ((await queue.getJobState(id)) !== 'unknown') throw new Error(`${id} is still in the queue`);
        },
        { timeout: 10_000, interval: 20 },
      );
    },

    /** Waits until the job is in the failed set. */
    async failed(id: string, timeout = 10_000) {
      return vi.waitFor(
        async () => {
          // The state first: a job read before it failed would not know of it.
          const state = await queue.getJobState(id);
          const job = await queue.getJob(id);
          if (!job || state !== 'failed') throw new Error(`${id} has not failed`);
          return job;
        },
        { timeout, interval: 20 },
      );
    },

    async close() {
      await Promise.all(workers.map((worker) => worker.close()));
      const left = await keysOf(redis, `${namespace}:*`);
      if (left.length > 0) await forget(redis, left);
      await queue.close();
      redis.disconnect();
      await catcher.stop();
    },
  };
}

export type Harness = Awaited<ReturnType<typeof createHarness>>;

function payloadFor(name: string, to: string) {
  const envelope = { v: 1, to, locale: 'en', request_id: 'request-1', user_id: randomUUID() };
  return name === 'activation' || name === 'password_reset' ? { ...envelope, attempt: 3 } : envelope;
}

/** The key in the link of a mail. */
export function keyIn(text: string): string {
  const [, key = ''] = /\/(?:activate|reset-password|change-email)\/([A-Za-z0-9]+)/.exec(text) ?? [];
  return key;
}

/** Every key and every value below a namespace, as one text. */
export async function dump({ redis, namespace }: Pick<Harness, 'redis' | 'namespace'>): Promise<string> {
  const parts: string[] = [];
  for (const key of await keysOf(redis, `${namespace}:*`)) {
    const type = await redis.type(key);
    // A pace lives for seconds: it may be gone since it was listed.
    if (type === 'none') continue;
    const value = {
      string: () => redis.get(key),
      hash: () => redis.hgetall(key),
      list: () => redis.lrange(key, 0, -1),
      set: () => redis.smembers(key),
      zset: () => redis.zrange(key, '0', '-1'),
      stream: () => redis.xrange(key, '-', '+'),
    }[type];
    if (!value) throw new Error(`${key} has a type this dump does not know`);
    parts.push(key, JSON.stringify(await value()));
  }
  return parts.join('\n');
}
