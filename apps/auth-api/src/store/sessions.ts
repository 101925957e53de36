/** Sessions in Redis. Every change is one script on the user's slot, so index, sessions and gate always agree. */
import type { RedisKeys } from '@latchkey/shared/redis-keys';
import type { Redis } from 'ioredis';
import type { Env } from '../env.ts';
import { defineScript } from './lua.ts';

export interface Device {
  deviceName: string | null;
  userAgent: string | null;
  ip: string;
}

/** Microseconds since the epoch by the clock of Redis, the one clock issue and revocation share. Below 2^53 until the year 2255. */
export type Microseconds = number;

/** What a session owns: a JWT pair, or the opaque token with this hash. */
export type SessionTokens = { format: 'jwt' } | { format: 'opaque'; tokenHash: string };

export type CreateOutcome =
  | {
      status: 'ok';
      createdAt: Microseconds;
      /** Milliseconds until its refresh or opaque token expires; null: never. */
      expiresIn: number | null;
      first: boolean;
      /** Sessions that had to end so that the limit holds. */
      evicted: string[];
    }
  | { status: 'closed'; until: Microseconds }
  /** Everything was revoked since the generation was read. */
  | { status: 'changed' };

export type RefreshOutcome =
  | {
      status: 'ok';
      counter: number;
      /** When the successor was issued. */
      rotatedAt: Microseconds;
      /** Now: when the access token that goes with it is issued. */
      now: Microseconds;
      /** Milliseconds. */
      refreshExpiresIn: number;
      deviceName: string | null;
    }
  | { status: 'gone' | 'cut' | 'expired' | 'reused' };

export interface SessionRecord extends Device {
  id: string;
  format: 'jwt' | 'opaque';
  createdAt: Microseconds;
  lastSeenAt: Microseconds;
  /** Milliseconds since the epoch; null: never. */
  expiresAt: number | null;
}

/** A user's cut-off and door, in microseconds; 0: none. */
export interface Gate {
  cutoff: Microseconds;
  closedUntil: Microseconds;
  suspendedUntil: Microseconds;
}

export type SessionStore = ReturnType<typeof createSessionStore>;

type Lifetimes = Pick<
  Env,
  | 'REFRESH_TOKEN_TTL'
  | 'SESSION_MAX_AGE'
  | 'REFRESH_GRACE'
  | 'ACCESS_TOKEN_TTL'
  | 'MAX_SESSIONS_PER_USER'
  | 'OPAQUE_TOKEN_TTL'
  | 'RESET_TOKEN_TTL_ON_USE'
  | 'OVERWRITE_NONE_TTL'
>;

export function createSessionStore(redis: Redis, keys: RedisKeys, env: Lifetimes) {
  const createScript = defineScript<[string, string, number, number, ...string[]]>(redis, 'create-session-4.lua');
  const refreshScript = defineScript<[string, number, string, string, number, string]>(redis, 'refresh-session-4.lua');
  const endScript = defineScript<string[]>(redis, 'end-sessions-3.lua');
  const cutOffScript = defineScript<[string, string, string]>(redis, 'cut-off-2.lua');
  const useScript = defineScript<[string, string, string, number]>(redis, 'use-opaque-token-3.lua');

  const idle = env.REFRESH_TOKEN_TTL * 1000;
  const maxAge = env.SESSION_MAX_AGE * 1000;
  const accessLife = env.ACCESS_TOKEN_TTL * 1000;
  const opaqueLife = env.OPAQUE_TOKEN_TTL === null ? -1 : env.OPAQUE_TOKEN_TTL * 1000;

  function end(userId: string, which: 'one' | 'others', sessionId: string): Promise<string[]> {
    return endScript(
      [keys.sessions(userId), keys.endedSessions(userId), keys.gate(userId)],
      [keys.sessionPrefix(userId), accessLife, which, sessionId],
    );
  }

  async function moveGate(
    userId: string,
    cutoff: Microseconds | 'now',
    suspendedUntil: Microseconds | 'keep',
  ): Promise<Gate> {
    const gate = await cutOffScript(
      [keys.gate(userId), keys.sessions(userId)],
      [keys.sessionPrefix(userId), cutoff === 'now' ? '' : cutoff, suspendedUntil, accessLife],
    );
    const [moved, closedUntil, suspended] = gate.map(Number);
    return { cutoff: moved ?? 0, closedUntil: closedUntil ?? 0, suspendedUntil: suspended ?? 0 };
  }

  return {
    /** To be read before a password is checked, and given to {@link create}: between the two, nothing may have been revoked. */
    generation: async (userId: string): Promise<string> => (await redis.hget(keys.gate(userId), 'generation')) ?? '0',

    async create(
      userId: string,
      sessionId: string,
      tokens: SessionTokens,
      device: Device,
      generation: string,
    ): Promise<CreateOutcome> {
      const life = tokens.format === 'jwt' ? Math.min(idle, maxAge) : opaqueLife;
      const [status, instant, expiresIn, first, ...evicted] = await createScript(
        [keys.session(userId, sessionId), keys.sessions(userId), keys.endedSessions(userId), keys.gate(userId)],
        [
          sessionId,
          life,
          env.MAX_SESSIONS_PER_USER,
          accessLife,
          keys.sessionPrefix(userId),
          generation,
          tokens.format === 'jwt' ? '' : tokens.tokenHash,
          device.deviceName ?? '',
          device.userAgent ?? '',
          device.ip,
        ],
      );
      if (status === 'closed') return { status, until: Number(instant) };
      if (status !== 'ok') return { status: 'changed' };
      return {
        status,
        createdAt: Number(instant),
        expiresIn: expiresIn < 0 ? null : expiresIn,
        first: first === 1,
        evicted,
      };
    },

    /** @param token what the refresh token presented says of itself. */
    async refresh(
      userId: string,
      sessionId: string,
      token: { counter: number; createdAt: Microseconds; issuedAt: Microseconds },
    ): Promise<RefreshOutcome> {
      const [status, counter, rotatedAt, now, refreshExpiresIn, deviceName] = await refreshScript(
        [keys.session(userId, sessionId), keys.sessions(userId), keys.endedSessions(userId), keys.gate(userId)],
        [
          sessionId,
          token.counter,
          token.createdAt,
          token.issuedAt,
          env.REFRESH_GRACE * 1_000_000,
          idle,
          maxAge,
          accessLife,
        ],
      );
      if (status !== 'ok') return { status: status as 'gone' | 'cut' | 'expired' | 'reused' };
      return {
        status,
        counter,
        rotatedAt: Number(rotatedAt),
        now: Number(now),
        refreshExpiresIn,
        deviceName: deviceName || null,
      };
    },

    /**
     * Checks an opaque token by its hash; its use renews its life as RESET_TOKEN_TTL_ON_USE and OVERWRITE_NONE_TTL say.
     * @param notBefore the birth of the epoch: what is older is refused.
     * @returns undefined when it is not good.
     */
    async useOpaqueToken(
      userId: string,
      sessionId: string,
      tokenHash: string,
      notBefore: Microseconds,
    ): Promise<{ issuedAt: Microseconds; createdAt: Microseconds; expiresIn: number | null } | undefined> {
      const [status, issuedAt, createdAt, expiresIn] = await useScript(
        [keys.session(userId, sessionId), keys.sessions(userId), keys.gate(userId)],
        [
          sessionId,
          tokenHash,
          opaqueLife,
          env.RESET_TOKEN_TTL_ON_USE ? 1 : 0,
          env.OVERWRITE_NONE_TTL ? 1 : 0,
          notBefore,
          accessLife,
        ],
      );
      if (status !== 'ok') return undefined;
      return { issuedAt: Number(issuedAt), createdAt: Number(createdAt), expiresIn: expiresIn < 0 ? null : expiresIn };
    },

    /** Whether the session lives and what it was issued at this instant is not cut off: asked of Redis, not of a copy. */
    async isLive(userId: string, sessionId: string, issuedAt: Microseconds): Promise<boolean> {
      const [exists, cutoff] = await Promise.all([
        redis.exists(keys.session(userId, sessionId)),
        redis.hget(keys.gate(userId), 'cutoff'),
      ]);
      return exists === 1 && issuedAt > Number(cutoff ?? 0);
    },

    /** Live sessions, the latest used first. */
    async list(userId: string): Promise<SessionRecord[]> {
      const members = await redis.zrange(keys.sessions(userId), '0', '-1', 'REV', 'WITHSCORES');
      const ids = members.filter((_, index) => index % 2 === 0);
      const fields = ['created_at', 'last_seen_at', 'token_hash', 'device_name', 'user_agent', 'ip'] as const;
      const hashes = await Promise.all(ids.map((id) => redis.hmget(keys.session(userId, id), ...fields)));
      return hashes.flatMap(([createdAt, lastSeenAt, tokenHash, deviceName, userAgent, ip], index) => {
        // An expired hash leaves its index entry until the next change of the user's sessions.
        const id = ids[index];
        if (!createdAt || id === undefined) return [];
        const score = members[index * 2 + 1];
        return {
          id,
          format: tokenHash ? ('opaque' as const) : ('jwt' as const),
          createdAt: Number(createdAt),
          lastSeenAt: Number(lastSeenAt),
          expiresAt: score === 'inf' ? null : Number(score),
          deviceName: deviceName || null,
          userAgent: userAgent || null,
          ip: ip ?? '',
        };
      });
    },

    /** @returns the ids to write to the revocation log; empty: the user has no such session. */
    endOne: (userId: string, sessionId: string) => end(userId, 'one', sessionId),
    /** @returns the ids to write to the revocation log. */
    endOthers: (userId: string, kept: string) => end(userId, 'others', kept),

    /**
     * Refuses what was issued until now, or until `at`. An instant to come closes the door until then.
     * One write, however many tokens there are.
     */
    cutOff: (userId: string, at: Microseconds | 'now') => moveGate(userId, at, 'keep'),
    /** Cuts off now and lets nothing be issued until `until`; 0 ends a suspension: what was issued before stays refused. */
    suspend: (userId: string, until: Microseconds) => moveGate(userId, 'now', until),
  };
}
