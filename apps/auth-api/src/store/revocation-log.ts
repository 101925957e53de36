/** The revocation log: what every verifier copies, and the epoch it belongs to. */
import { randomUUID } from 'node:crypto';
import type { RedisKeys } from '@latchkey/shared/redis-keys';
import type { Epoch, Revocation, RevocationCopy } from '@latchkey/verifier/revocation-copy';
import type { Redis } from 'ioredis';
import { defineScript } from './lua.ts';
import type { Microseconds } from './sessions.ts';

/** Seconds added to the life of an entry: a verifier whose clock is behind still thinks a token alive that long. */
const CLOCK_TOLERANCE = 60;

export type RevocationLog = ReturnType<typeof createRevocationLog>;

const fieldsOf = (revocation: Revocation): (string | number)[] =>
  'sessionId' in revocation
    ? ['sid', revocation.sessionId, 'from', revocation.from, 'until', revocation.until]
    : ['sub', revocation.userId, 'cutoff', revocation.cutoff, 'until', revocation.until];

/** Begins an epoch unless another one has begun meanwhile. @returns whether this call began it. */
export function createEpochs(redis: Redis, keys: RedisKeys) {
  const beginScript = defineScript<number>(redis, 'begin-epoch-1.lua');
  return {
    begin: async (known: Epoch | undefined): Promise<boolean> =>
      (await beginScript([keys.epoch], [known?.id ?? '', randomUUID()])) === 1,
  };
}

/**
 * @param accessTokenTtl seconds: how long after its session an access token can live, and so how long an entry matters.
 * @param copy this instance's own copy, which learns before the caller gets its answer.
 */
export function createRevocationLog(redis: Redis, keys: RedisKeys, accessTokenTtl: number, copy: RevocationCopy) {
  const life = accessTokenTtl + CLOCK_TOLERANCE;

  async function write(revocations: readonly Revocation[], now: number): Promise<void> {
    const oldest = now - life * 1000;
    await Promise.all(
      revocations.map((revocation) => redis.xadd(keys.revocations, 'MINID', '~', oldest, '*', ...fieldsOf(revocation))),
    );
    // Not before it is written: a caller told that it failed must still get in to try again.
    for (const revocation of revocations) copy.apply(revocation);
  }

  const until = (now: number) => Math.ceil(now / 1000) + life;

  return {
    /**
     * Has the access tokens of these sessions refused everywhere.
     * @param now milliseconds
     * @param from only what was issued then or later.
     * @throws what Redis throws: then nothing may be reported as revoked.
     */
    denySessions: (sessionIds: readonly string[], now: number, from: Microseconds = 0): Promise<void> =>
      write(
        sessionIds.map((sessionId) => ({ sessionId, from, until: until(now) })),
        now,
      ),

    /**
     * Has what this user was issued at `cutoff` or before refused everywhere.
     * @param now milliseconds
     * @throws what Redis throws: then nothing may be reported as revoked.
     */
    cutOff: (userId: string, cutoff: Microseconds, now: number): Promise<void> =>
      write([{ userId, cutoff, until: until(now) }], now),
  };
}
