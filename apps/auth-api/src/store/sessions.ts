/** Sessions in Redis. Every change is one script on the user's slot, so index and sessions always agree. */
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

export interface CreatedSession {
  createdAt: Microseconds;
  /** Milliseconds until its refresh token expires. */
  refreshExpiresIn: number;
  first: boolean;
  /** Sessions to write to the revocation log: those that had to end so that the limit holds, and those that ended lately. */
  ended: string[];
}

export type RefreshOutcome =
  | {
      status: 'ok';
      counter: number;
      /** When the successor was issued. */
      rotatedAt: Microseconds;
      /** Now: when the access token that goes with it is issued. */
      now: Microseconds;
      refreshExpiresIn: number;
      deviceName: string | null;
    }
  | { status: 'gone' | 'ended' | 'expired' | 'reused' };

export interface SessionRecord extends Device {
  id: string;
  createdAt: Microseconds;
  lastSeenAt: Microseconds;
  expiresAt: number;
}

export type SessionStore = ReturnType<typeof createSessionStore>;

type Lifetimes = Pick<
  Env,
  'REFRESH_TOKEN_TTL' | 'SESSION_MAX_AGE' | 'REFRESH_GRACE' | 'ACCESS_TOKEN_TTL' | 'MAX_SESSIONS_PER_USER'
>;

export function createSessionStore(redis: Redis, keys: RedisKeys, env: Lifetimes) {
  const createScript = defineScript<[string, number, number, ...string[]]>(redis, 'create-session-3.lua');
  const refreshScript = defineScript<[string, number, string, string, number, string]>(redis, 'refresh-session-3.lua');
  const endScript = defineScript<string[]>(redis, 'end-sessions-2.lua');

  const idle = env.REFRESH_TOKEN_TTL * 1000;
  const maxAge = env.SESSION_MAX_AGE * 1000;
  const accessLife = env.ACCESS_TOKEN_TTL * 1000;

  async function end(userId: string, which: 'one' | 'all' | 'others', sessionId: string): Promise<string[]> {
    return endScript(
      [keys.sessions(userId), keys.endedSessions(userId)],
      [keys.sessionPrefix(userId), accessLife, which, sessionId],
    );
  }

  return {
    async create(userId: string, sessionId: string, device: Device): Promise<CreatedSession> {
      const [createdAt, refreshExpiresIn, first, ...ended] = await createScript(
        [keys.session(userId, sessionId), keys.sessions(userId), keys.endedSessions(userId)],
        [
          sessionId,
          idle,
          maxAge,
          env.MAX_SESSIONS_PER_USER,
          accessLife,
          keys.sessionPrefix(userId),
          device.deviceName ?? '',
          device.userAgent ?? '',
          device.ip,
        ],
      );
      return { createdAt: Number(createdAt), refreshExpiresIn, first: first === 1, ended };
    },

    /** @param counter of the refresh token presented. @param createdAt the first login it names. */
    async refresh(
      userId: string,
      sessionId: string,
      counter: number,
      createdAt: Microseconds,
    ): Promise<RefreshOutcome> {
      const [status, successor, rotatedAt, now, refreshExpiresIn, deviceName] = await refreshScript(
        [keys.session(userId, sessionId), keys.sessions(userId), keys.endedSessions(userId)],
        [sessionId, counter, createdAt, env.REFRESH_GRACE * 1_000_000, idle, maxAge, accessLife],
      );
      if (status !== 'ok') return { status: status as 'gone' | 'ended' | 'expired' | 'reused' };
      return {
        status,
        counter: successor,
        rotatedAt: Number(rotatedAt),
        now: Number(now),
        refreshExpiresIn,
        deviceName: deviceName || null,
      };
    },

    /** Live sessions, the latest used first. */
    async list(userId: string): Promise<SessionRecord[]> {
      const members = await redis.zrange(keys.sessions(userId), '0', '-1', 'REV', 'WITHSCORES');
      const ids = members.filter((_, index) => index % 2 === 0);
      const fields = ['created_at', 'last_seen_at', 'device_name', 'user_agent', 'ip'] as const;
      const hashes = await Promise.all(ids.map((id) => redis.hmget(keys.session(userId, id), ...fields)));
      return hashes.flatMap(([createdAt, lastSeenAt, deviceName, userAgent, ip], index) => {
        // An expired hash leaves its index entry until the next change of the user's sessions.
        const id = ids[index];
        if (!createdAt || id === undefined) return [];
        return {
          id,
          createdAt: Number(createdAt),
          lastSeenAt: Number(lastSeenAt),
          expiresAt: Number(members[index * 2 + 1]),
          deviceName: deviceName || null,
          userAgent: userAgent || null,
          ip: ip ?? '',
        };
      });
    },

    /** @returns the ids to write to the revocation log; empty: the user has no such session. */
    endOne: (userId: string, sessionId: string) => end(userId, 'one', sessionId),
    /** @returns the ids to write to the revocation log. */
    endAll: (userId: string) => end(userId, 'all', ''),
    /** @returns the ids to write to the revocation log. */
    endOthers: (userId: string, kept: string) => end(userId, 'others', kept),
  };
}
