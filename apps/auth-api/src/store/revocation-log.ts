/** The revocation log: what every verifier copies, and the epoch it belongs to. */

import { randomUUID } from 'node:crypto';
import type { RedisConnection } from '@latchkey/shared/redis-connections';
import type { RedisKeys } from '@latchkey/shared/redis-keys';
import { isUuid } from '@latchkey/shared/uuid';
import { type NewRevocation, readEntry, writeEntry } from '@latchkey/verifier/log-entry';
import type { Epoch, KnownEntry, RevocationCopy } from '@latchkey/verifier/revocation-copy';
import { issuedAtOf } from '@latchkey/verifier/token-identity';
import { NotReady } from '../not-ready.ts';
import { batched, MAX_BATCH } from './batching.ts';
import { readLogEnd } from './log-end.ts';
import { defineScript } from './lua.ts';
import type { Microseconds } from './sessions.ts';

/** Milliseconds the copy has to catch up with the log: a caller that waits asks Redis before, and is answered within 2 s. */
const CATCH_UP = 1000;

/** Seconds added to the life of an entry: a verifier whose clock is behind still thinks a token alive that long. */
export const CLOCK_TOLERANCE = 60;

/** It is full, can't save, or has too few replicas in step. */
const TAKES_NO_WRITES = /^(?:OOM|MISCONF|NOREPLICAS) /;

export type RevocationLog = ReturnType<typeof createRevocationLog>;

/**
 * The epoch of the Redis that is there, for callers about to ask or to write to it: behind a connection made anew may be an older copy, in
 * which an ended session lives.
 * @throws Error as for a Redis that is away.
 */
export function knownEpoch(copy: RevocationCopy): Epoch {
  const epoch = copy.knowsRedis() ? copy.epoch() : undefined;
  if (!epoch) throw new Error('Redis connection is not ready: it has yet to be recognised');
  return epoch;
}

/**
 * Begins an epoch, born at `notBefore` at the earliest, unless another one has begun meanwhile, or the log still has the entry `last`: then it is
 * not lost, and whoever thinks so has looked at another server.
 * @returns of `begin`: whether this call began it.
 */
export function createEpochs(redis: RedisConnection, keys: RedisKeys) {
  const beginScript = defineScript<number>(redis, 'begin-epoch-2.lua');
  return {
    async begin(
      found: Epoch | undefined,
      notBefore: Microseconds,
      last: KnownEntry = { id: '0-0', until: 0 },
    ): Promise<boolean> {
      const args = [found?.id ?? '', randomUUID(), notBefore, last.id, last.until];
      return (await beginScript([keys.epoch, keys.revocations], args)) === 1;
    },
  };
}

/** A line of the log about a user, as {@link RevocationLog.lines} reads it. */
export type LoggedRevocation = { userId: string; sessionId: string } | { userId: string; cutoff: Microseconds };

function parse([name = '', text = '']: readonly string[]): LoggedRevocation[] {
  const revocation = readEntry(name, text);
  if (!revocation || 'keyId' in revocation) return [];
  if ('userId' in revocation) {
    const { userId, cutoff } = revocation;
    // Clients are cut off too, and their ids have any form but this.
    return isUuid(userId) ? [{ userId, cutoff }] : [];
  }
  const { user, sessionId } = revocation;
  return user === undefined ? [] : [{ userId: user, sessionId }];
}

/**
 * @param accessTokenTtl seconds: how long after its session an access token can live, and so how long an entry matters.
 * @param copy this instance's own copy, which learns before the caller gets its answer.
 * @param patience how many times longer it may take to catch up; more than 1 is for tests.
 */
export function createRevocationLog(
  redis: RedisConnection,
  keys: RedisKeys,
  accessTokenTtl: number,
  copy: RevocationCopy,
  patience = 1,
) {
  const revokeScript = defineScript<[until: number, id: string]>(redis, 'revoke-2.lua');
  const announceScript = defineScript<null>(redis, 'announce-life-1.lua');
  let announced = false;
  /** Seconds a line of this instance matters. */
  const ownLife = accessTokenTtl + CLOCK_TOLERANCE;

  /**
   * Time is Redis's: one instance whose clock is wrong must not empty the log of all.
   * @param latest when the last of it was issued, as far as that is known: it may lie ahead of a clock that has stepped back.
   * @param life seconds from then, and from now, until none of it matters any more.
   */
  async function write(lines: readonly NewRevocation[], latest: Microseconds, life = ownLife): Promise<void> {
    // An older copy of Redis that was written to would be harder to tell from the one that was lost.
    const epoch = knownEpoch(copy);
    if (lines.length === 0) return;
    const [until, id] = await revokeScript(
      [keys.revocations, keys.lineLife],
      [life, latest, ...lines.flatMap(writeEntry)],
    );
    // Not before it is written: a caller told that it failed must still get in to try again.
    for (const line of lines) copy.apply({ ...line, until }, { id, epoch });
  }

  const askEnd = batched<void, string>(redis, MAX_BATCH, async (questions) => {
    const end = await readLogEnd(redis, keys);
    return questions.map(() => end);
  });

  return {
    /**
     * Tells the other instances how long what this one issues lives: before it issues anything, and again and again while it does.
     * @throws what Redis throws, except when it takes no writes: an instance that only verifies goes on, and {@link assertAnnounced} keeps it
     *   from issuing.
     */
    async announceLife(): Promise<void> {
      try {
        await announceScript([keys.lineLife], [ownLife]);
        announced = true;
      } catch (error) {
        if (!(error instanceof Error && TAKES_NO_WRITES.test(error.message))) throw error;
      }
    },

    /** For callers about to issue a token. @throws {NotReady} while the others have not been told how long it lives. */
    assertAnnounced(): void {
      if (!announced) throw new NotReady('Redis takes no writes', { dependency: 'redis' });
    },

    /** Seconds after its issue until an access token of any announced instance has expired. @throws what Redis throws. */
    life: async (): Promise<number> => Math.max(ownLife, Number(await redis.get(keys.lineLife))),

    /** The last entry it has now. @throws what Redis throws. */
    end: (): Promise<string> => askEnd(),

    /**
     * Resolves once this instance's copy knows all up to there: then it says what Redis itself did when that was the log's end.
     * @throws `NotReady` when the copy is too far behind.
     */
    async copied(end: string): Promise<void> {
      await copy.reaches(end, CATCH_UP * patience).catch((cause) => {
        throw new NotReady('the copy of the revocation log is behind', { dependency: 'redis', cause });
      });
    },

    /**
     * Has the access tokens of a user's sessions refused everywhere.
     * @param from only what was issued then or later.
     * @throws what Redis throws: then nothing may be reported as revoked.
     */
    async denySessions(userId: string, sessionIds: readonly string[], from: Microseconds = 0): Promise<void> {
      const ended = keys.endedSessions(userId);
      // Each end is owed for as long as what its session was issued lives; the longest of them is enough for all.
      const [, owedUntil = 0] = sessionIds.length > 0 ? await redis.zrange(ended, '-1', '-1', 'WITHSCORES') : [];
      const latest = (Number(owedUntil) - accessTokenTtl * 1000) * 1000;
      await write(
        sessionIds.map((sessionId) => ({ sessionId, from, user: userId })),
        Math.max(from, latest),
      );
      // What stands in the log is owed to it no more. If this fails it is written once more, which changes nothing.
      if (sessionIds.length > 0) await redis.zrem(ended, ...sessionIds).catch(() => undefined);
    },

    /** All the log says of users, from its start, so many lines at a time. @throws what Redis throws. */
    async *lines(count: number): AsyncGenerator<LoggedRevocation[]> {
      let from = '-';
      for (;;) {
        const entries = await redis.xrange(keys.revocations, from, '+', 'COUNT', count);
        yield entries.flatMap(([, fields]) => parse(fields));
        const last = entries.at(-1);
        if (!last || entries.length < count) return;
        from = `(${last[0]}`;
      }
    },

    /** Has one token of a client refused everywhere, which has no session. @throws as {@link denySessions}. */
    denyClientToken: (jti: string): Promise<void> => write([{ sessionId: jti, from: 0 }], issuedAtOf(jti)),

    /**
     * Has what this user was issued at `cutoff` or before refused everywhere.
     * @param latest when the last of that was issued.
     * @throws what Redis throws: then nothing may be reported as revoked.
     */
    cutOff: (userId: string, cutoff: Microseconds, latest = cutoff): Promise<void> =>
      write([{ userId, cutoff }], latest),

    /** The same, unless the log says so already. */
    async assureCutOff(userId: string, cutoff: Microseconds): Promise<void> {
      if (cutoff > 0 && !copy.denies({ userId, sessionId: '', issuedAt: cutoff }))
        await write([{ userId, cutoff }], cutoff);
    },

    /**
     * Has what a signing key has signed, or is yet to sign, refused everywhere.
     * @param life seconds until nobody can hold that key any more.
     * @throws as {@link denySessions}.
     */
    denyKey: (kid: string, life: number): Promise<void> => write([{ keyId: kid }], 0, life),
  };
}
