/**
 * The table of limits, and the one place that counts.
 *
 * Stance when Redis is away: each instance goes on counting in its own memory. So a burst is still cut off (per instance), and
 * registration, which needs no Redis, goes on; nothing is refused merely because nobody can count.
 */
import { createHash } from 'node:crypto';
import type { RedisKeys } from '@latchkey/shared/redis-keys';
import type { Redis } from 'ioredis';
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import { Problem } from './problems.ts';

/** Points per window of seconds; the subject is what is counted. Also the table in README. */
export const limits = {
  registrationPerIp: { points: 300, window: 600, subject: 'IP address', protects: 'registering in bulk' },
  activationPerIp: {
    points: 300,
    window: 600,
    subject: 'IP address',
    protects: 'guessing keys, asking for mail in bulk',
  },
  mailPerRecipient: { points: 10, window: 3600, subject: 'e-mail address', protects: 'a mailbox from being flooded' },
  loginPerIp: { points: 300, window: 300, subject: 'IP address', protects: 'trying many accounts' },
  loginPerAccount: {
    points: 20,
    window: 900,
    subject: 'e-mail address',
    protects: 'trying many passwords; a login that succeeds starts anew',
  },
} as const;

export type LimitName = keyof typeof limits;

export type RateLimits = ReturnType<typeof createRateLimits>;

export function createRateLimits(redis: Redis, keys: RedisKeys, mode: 'on' | 'off') {
  const limiters = Object.fromEntries(
    Object.entries(limits).map(([name, { points, window }]) => {
      const keyPrefix = keys.rateLimit(name);
      const bounds = { keyPrefix, points, duration: window };
      const insuranceLimiter = new RateLimiterMemory(bounds);
      return [
        name,
        new RateLimiterRedis({ ...bounds, storeClient: redis, insuranceLimiter, rejectIfRedisNotReady: true }),
      ];
    }),
  ) as Record<LimitName, RateLimiterRedis>;

  /** Hashed: a dump of Redis lists nobody's address. */
  const hashed = (subject: string) => createHash('sha256').update(subject).digest('base64url');

  return {
    /** Counts one request. @throws {Problem} `rate_limited` with the seconds until the window ends. */
    async consume(limit: LimitName, subject: string): Promise<void> {
      if (mode === 'off') return;
      try {
        await limiters[limit].consume(hashed(subject));
      } catch (refused) {
        if (!(refused instanceof RateLimiterRes)) throw refused;
        throw new Problem('rate_limited', { retryAfter: Math.max(1, Math.ceil(refused.msBeforeNext / 1000)) });
      }
    },

    /** Forgets what was counted. */
    async reset(limit: LimitName, subject: string): Promise<void> {
      if (mode === 'on') await limiters[limit].delete(hashed(subject));
    },
  };
}
