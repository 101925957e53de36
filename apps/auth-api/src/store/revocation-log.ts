/** The revocation log: what every verifier copies. */
import type { RedisKeys } from '@latchkey/shared/redis-keys';
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import type { Redis } from 'ioredis';

/** Seconds added to the life of an entry: a verifier whose clock is behind still thinks a token alive that long. */
const CLOCK_TOLERANCE = 60;

export type RevocationLog = ReturnType<typeof createRevocationLog>;

/**
 * @param accessTokenTtl seconds: how long after its session an access token can live, and so how long an entry matters.
 * @param copy this instance's own copy, which learns before the caller gets its answer.
 */
export function createRevocationLog(redis: Redis, keys: RedisKeys, accessTokenTtl: number, copy: RevocationCopy) {
  const life = accessTokenTtl + CLOCK_TOLERANCE;
  return {
    /**
     * Has the access tokens of these sessions refused everywhere. Time is Redis's: one instance whose clock is wrong must not trim the log
     * of all.
     * @throws what Redis throws: then nothing may be reported as revoked.
     */
    async denySessions(sessionIds: readonly string[]): Promise<void> {
      const [seconds] = await redis.time();
      const until = Number(seconds) + life;
      const oldest = (Number(seconds) - life) * 1000;
      await Promise.all(
        sessionIds.map((sessionId) =>
          redis.xadd(keys.revocations, 'MINID', '~', oldest, '*', 'sid', sessionId, 'until', until),
        ),
      );
      // Not before it is written: a caller told that it failed must still get in to try again.
      for (const sessionId of sessionIds) copy.deny(sessionId, until);
    },
  };
}
