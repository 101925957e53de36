/** Sessions in Redis. Every change is one script on the user's slot, so index, sessions and gate always agree. */
import type { RedisConnection } from '@latchkey/shared/redis-connections';
import type { RedisKeys } from '@latchkey/shared/redis-keys';
import type { Env } from '../env.ts';
import { batched, MAX_BATCH, MAX_REFRESH_BATCH } from './batching.ts';
import { type Device, packDevice, unpackDevice } from './devices.ts';
import { readLogEnd } from './log-end.ts';
import { defineScript } from './lua.ts';
import { createOpaqueTokenUse, opaqueLifeOf } from './opaque-token-use.ts';

/** Microseconds since the epoch by the clock of Redis, the one clock issue and revocation share. Below 2^53 until the year 2255. */
export type Microseconds = number;

/** What a session owns: a JWT pair, or an opaque token, whose hash is then the session's id. */
export type TokenFormat = 'jwt' | 'opaque';

export type CreateOutcome =
  | {
      status: 'ok';
      createdAt: Microseconds;
      /** Until its refresh or opaque token expires; null: never. */
      expiresInMs: number | null;
      first: boolean;
      /** Sessions whose end is owed to the revocation log: those that ended to keep the limit, and those whose write failed. */
      ended: string[];
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
      refreshExpiresInMs: number;
      deviceName: string | null;
    }
  /** `now`: by Redis, for callers that tell from it why the session is gone. */
  | { status: 'gone' | 'ended'; now: Microseconds }
  | { status: 'cut' | 'expired' | 'reused' };

export interface SessionRecord extends Device {
  id: string;
  format: TokenFormat;
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

/** What Redis itself says of an access token, not a copy. */
export interface Standing {
  /** Its session lives, and is not cut off since it was issued. */
  live: boolean;
  /** The last entry of the revocation log at that moment, or since. */
  logEnd: string;
}

/** One refresh token, presented. */
interface Refresh {
  userId: string;
  sessionId: string;
  /** What it says of itself. */
  token: { counter: number; createdAt: Microseconds; issuedAt: Microseconds };
}

type RefreshReply = [
  'ok' | 'gone' | 'ended' | 'cut' | 'expired' | 'reused',
  number | string,
  string,
  string,
  number,
  string,
];

export type SessionStore = ReturnType<typeof createSessionStore>;

type SessionSettings = Pick<
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

export function createSessionStore(redis: RedisConnection, keys: RedisKeys, env: SessionSettings) {
  const createScript = defineScript<[string, string, number, number, ...string[]]>(redis, 'create-session-4.lua');
  const refreshScript = defineScript<(RefreshReply | Error)[]>(redis, 'refresh-sessions.lua');
  const endScript = defineScript<string[]>(redis, 'end-sessions-3.lua');
  const cutOffScript = defineScript<[string, string, string]>(redis, 'cut-off-2.lua');
  const liveScript = defineScript<[(0 | 1 | Error)[], string]>(redis, 'live-sessions.lua');

  const idle = env.REFRESH_TOKEN_TTL * 1000;
  const maxAge = env.SESSION_MAX_AGE * 1000;
  const accessLife = env.ACCESS_TOKEN_TTL * 1000;
  const opaqueLife = opaqueLifeOf(env);

  function end(userId: string, which: 'one' | 'others', sessionId: string): Promise<string[]> {
    return endScript(
      [keys.sessions(userId), keys.endedSessions(userId), keys.gate(userId)],
      [keys.sessionPrefix(userId), accessLife, which, sessionId],
    );
  }

  const refreshRules = [env.REFRESH_GRACE * 1_000_000, idle, maxAge, accessLife];
  const askRefresh = batched<Refresh, RefreshReply>(redis, MAX_REFRESH_BATCH, (questions) => {
    const named: string[] = [];
    const args = [...refreshRules] as (string | number)[];
    for (const { userId, sessionId, token } of questions) {
      named.push(keys.session(userId, sessionId), keys.sessions(userId), keys.endedSessions(userId), keys.gate(userId));
      args.push(sessionId, token.counter, token.createdAt, token.issuedAt);
    }
    return refreshScript(named, args);
  });

  /** Asks of both at once; on Redis Cluster no call reaches both. */
  async function askLiveAndLog(named: string[], issuedAt: Microseconds[]): Promise<[(0 | 1 | Error)[], string]> {
    if (!redis.isCluster) return liveScript([...named, keys.revocations], issuedAt);
    const [[answers], logEnd] = await Promise.all([liveScript(named, issuedAt), readLogEnd(redis, keys)]);
    return [answers, logEnd];
  }

  const askStanding = batched<{ userId: string; sessionId: string; issuedAt: Microseconds }, Standing>(
    redis,
    MAX_BATCH,
    async (questions) => {
      const [answers, logEnd] = await askLiveAndLog(
        questions.flatMap(({ userId, sessionId }) => [keys.session(userId, sessionId), keys.gate(userId)]),
        questions.map(({ issuedAt }) => issuedAt),
      );
      return answers.map((live) => (live instanceof Error ? live : { live: live === 1, logEnd }));
    },
  );

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
    useOpaqueToken: createOpaqueTokenUse(redis, keys, env),

    /** To be read before a password is checked, and given to {@link create}: between the two, nothing may have been revoked. */
    generation: async (userId: string): Promise<string> => (await redis.hget(keys.gate(userId), 'generation')) ?? '0',

    async create(
      userId: string,
      sessionId: string,
      format: TokenFormat,
      device: Device,
      { generation, notBefore }: { generation: string; notBefore: Microseconds },
    ): Promise<CreateOutcome> {
      const life = format === 'jwt' ? Math.min(idle, maxAge) : opaqueLife;
      const [status, instant, expiresInMs, first, ...ended] = await createScript(
        [keys.session(userId, sessionId), keys.sessions(userId), keys.endedSessions(userId), keys.gate(userId)],
        [
          sessionId,
          life,
          env.MAX_SESSIONS_PER_USER,
          accessLife,
          keys.sessionPrefix(userId),
          generation,
          format,
          packDevice(device),
          (format === 'jwt' && device.deviceName) || '',
          notBefore,
        ],
      );
      if (status === 'closed') return { status, until: Number(instant) };
      if (status !== 'ok') return { status: 'changed' };
      return {
        status,
        createdAt: Number(instant),
        expiresInMs: expiresInMs < 0 ? null : expiresInMs,
        first: first === 1,
        ended,
      };
    },

    /** @param token what the refresh token presented says of itself. */
    async refresh(userId: string, sessionId: string, token: Refresh['token']): Promise<RefreshOutcome> {
      const reply = await askRefresh({ userId, sessionId, token });
      const [status, counterOrNow, rotatedAt, now, refreshExpiresInMs, deviceName] = reply;
      if (status === 'gone' || status === 'ended') return { status, now: Number(counterOrNow) };
      if (status !== 'ok') return { status };
      return {
        status,
        counter: Number(counterOrNow),
        rotatedAt: Number(rotatedAt),
        now: Number(now),
        refreshExpiresInMs,
        deviceName: deviceName || null,
      };
    },

    /** When the user was cut off; 0: never, or so long ago that it does not matter. */
    cutOffAt: async (userId: string): Promise<Microseconds> =>
      Number((await redis.hget(keys.gate(userId), 'cutoff')) ?? 0),

    /** How a token of the session stands that was issued at this instant. */
    standing: (userId: string, sessionId: string, issuedAt: Microseconds): Promise<Standing> =>
      askStanding({ userId, sessionId, issuedAt }),

    /** Now, by the clock that decides. */
    async clock(): Promise<Microseconds> {
      const [seconds, microseconds] = await redis.time();
      return Number(seconds) * 1_000_000 + Number(microseconds);
    },

    /**
     * Live sessions, the latest used first.
     * @param notBefore the birth of the epoch: what is older came back with an older copy of Redis, and is refused.
     */
    async list(userId: string, notBefore: Microseconds): Promise<SessionRecord[]> {
      const members = await redis.zrange(keys.sessions(userId), '0', '-1', 'REV', 'WITHSCORES');
      const ids = members.filter((_, index) => index % 2 === 0);
      const fields = ['created', 'seen', 'counter', 'device'] as const;
      const hashes = await Promise.all(ids.map((id) => redis.hmgetBuffer(keys.session(userId, id), ...fields)));
      const records = hashes.flatMap(([created, seen, counter, device], index) => {
        // An expired hash leaves its index entry until the next change of the user's sessions.
        const id = ids[index];
        if (!created || !seen || !device || id === undefined || Number(created) < notBefore) return [];
        const score = members[index * 2 + 1];
        return {
          id,
          format: counter ? ('jwt' as const) : ('opaque' as const),
          createdAt: Number(created),
          lastSeenAt: Number(seen),
          expiresAt: score === 'inf' ? null : Number(score),
          ...unpackDevice(device),
        };
      });
      return records.sort((a, b) => b.lastSeenAt - a.lastSeenAt);
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
