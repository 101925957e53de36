/**
 * The table of limits, and the one place that counts.
 *
 * Stance when Redis is away: each instance goes on counting in its own memory. So a burst is still cut off (per instance), and
 * registration, which needs no Redis, goes on; nothing is refused merely because nobody can count.
 */

import { setImmediate, setTimeout } from 'node:timers/promises';
import { emailKey } from '@latchkey/shared/account-fields';
import type { RedisConnection } from '@latchkey/shared/redis-connections';
import type { RedisKeys } from '@latchkey/shared/redis-keys';
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import { networkOf } from './client-address.ts';
import type { Keyring } from './domain/keyring.ts';
import { Problem } from './problems.ts';

/** Points per window of seconds, and what counts as one. Also the table in README. */
export const limits = {
  /** Registering in bulk. */
  registrationPerIp: { points: 300, window: 600, countedBy: networkOf },
  /** Guessing keys, and asking for mail in bulk. */
  mailedKeyPerIp: { points: 300, window: 600, countedBy: networkOf },
  /** A mailbox flooded. */
  mailPerRecipient: { points: 10, window: 3600, countedBy: emailKey },
  /** Trying many accounts. */
  loginPerIp: { points: 300, window: 300, countedBy: networkOf },
  /** Trying many passwords; a login that succeeds starts anew. NIST SP 800-63B section 5.2.2 allows 100 failures in a row. */
  loginPerAccount: { points: 100, window: 900, countedBy: emailKey },
  /** The same for holders of a token of the account. Counted apart, or strangers' logins could keep the owner from changing the password. */
  passwordPerUser: { points: 20, window: 900, countedBy: (userId: string) => userId },
} as const;

export type LimitName = keyof typeof limits;

export type RateLimits = ReturnType<typeof createRateLimits>;

/** Milliseconds Redis has to count. Behind a batch that hangs, each command waits for two timeouts: the store's alone are within the 2 s. */
const COUNT_WITHIN = 250;
/** Milliseconds an instance goes on alone once Redis did not answer: a request that asks two limits must not wait for it twice. */
const ALONE_FOR = 1000;

/**
 * Rejects when Redis has had its time. That begins when the question goes out, at the end of this turn of the event loop, and is over once
 * what has come was read: an instance that is busy itself, as in a burst, was not kept waiting, and alone it would give everybody new points.
 */
async function late(signal: AbortSignal): Promise<never> {
  await setImmediate(undefined, { signal });
  await setTimeout(COUNT_WITHIN, undefined, { signal });
  await setImmediate(undefined, { signal });
  throw new Error('Redis did not count in time');
}

/** @param nameOf what a subject is called in Redis: a dump lists nobody's address, and without MASTER_KEY none can be looked for by guessing. */
export function createRateLimits(
  redis: RedisConnection,
  keys: RedisKeys,
  mode: 'on' | 'off',
  nameOf: Keyring['rateLimitMac'],
) {
  const limiters = Object.fromEntries(
    Object.entries(limits).map(([name, { points, window }]) => {
      const bounds = { keyPrefix: keys.rateLimit(name), points, duration: window };
      const shared = new RateLimiterRedis({ ...bounds, storeClient: redis, rejectIfRedisNotReady: true });
      return [name, { shared, own: new RateLimiterMemory(bounds) }];
    }),
  ) as Record<LimitName, { shared: RateLimiterRedis; own: RateLimiterMemory }>;
  const nameFor = (limit: LimitName, subject: string): string => nameOf(limits[limit].countedBy(subject));
  let aloneUntil = Number.NEGATIVE_INFINITY;

  /** Rejects with a {@link RateLimiterRes} when the limit is reached. */
  async function count(limit: LimitName, subject: string): Promise<void> {
    const { shared, own } = limiters[limit];
    if (performance.now() >= aloneUntil) {
      const counted = new AbortController();
      try {
        await Promise.race([shared.consume(subject), late(counted.signal)]);
        return;
      } catch (error) {
        if (error instanceof RateLimiterRes) throw error;
        aloneUntil = performance.now() + ALONE_FOR;
      } finally {
        counted.abort();
      }
    }
    await own.consume(subject);
  }

  return {
    /** Counts one request. @throws {Problem} `rate_limited` with the seconds until the window ends. */
    async consume(limit: LimitName, subject: string): Promise<void> {
      if (mode === 'off') return;
      try {
        await count(limit, nameFor(limit, subject));
      } catch (refused) {
        if (!(refused instanceof RateLimiterRes)) throw refused;
        throw new Problem('rate_limited', { retryAfter: Math.max(1, Math.ceil(refused.msBeforeNext / 1000)) });
      }
    },

    /** Forgets what was counted; a Redis that is away forgets it with the window. */
    async reset(limit: LimitName, subject: string): Promise<void> {
      if (mode === 'off') return;
      const { shared, own } = limiters[limit];
      const name = nameFor(limit, subject);
      await Promise.allSettled([shared.delete(name), own.delete(name)]);
    },
  };
}
