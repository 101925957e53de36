/** The use of opaque tokens, which is asked of Redis each time. */
import type { RedisConnection } from '@latchkey/shared/redis-connections';
import type { RedisKeys } from '@latchkey/shared/redis-keys';
import type { Env } from '../env.ts';
import { batched, MAX_BATCH } from './batching.ts';
import { defineScript } from './lua.ts';
import type { Microseconds } from './sessions.ts';

/** What a use is told. */
export interface OpaqueTokenUse {
  issuedAt: Microseconds;
  /** Milliseconds since the epoch; null: never. */
  expiresAt: number | null;
}

interface Question {
  userId: string;
  sessionId: string;
  notBefore: Microseconds;
}

/** Milliseconds an opaque token lives from its use on; -1: for ever. */
export const opaqueLifeOf = ({ OPAQUE_TOKEN_TTL }: Pick<Env, 'OPAQUE_TOKEN_TTL'>): number =>
  OPAQUE_TOKEN_TTL === null ? -1 : OPAQUE_TOKEN_TTL * 1000;

export function createOpaqueTokenUse(
  redis: RedisConnection,
  keys: RedisKeys,
  env: Pick<Env, 'OPAQUE_TOKEN_TTL' | 'RESET_TOKEN_TTL_ON_USE' | 'OVERWRITE_NONE_TTL'>,
) {
  const script = defineScript<[now: string, ...(string | Error)[]]>(redis, 'use-opaque-tokens.lua');
  const rules = [opaqueLifeOf(env), env.RESET_TOKEN_TTL_ON_USE ? 1 : 0, env.OVERWRITE_NONE_TTL ? 1 : 0];

  const ask = batched<Question, OpaqueTokenUse | undefined>(redis, MAX_BATCH, async (questions) => {
    const named: string[] = [];
    const args = [...rules];
    for (const { userId, sessionId, notBefore } of questions) {
      named.push(keys.session(userId, sessionId), keys.sessions(userId), keys.gate(userId));
      args.push(notBefore);
    }
    const [now, ...answers] = await script(named, args);
    return answers.map((said) => (typeof said === 'string' ? readUse(said, Number(now)) : said));
  });

  /**
   * Checks an opaque token by its hash, which is the session's id; its use renews its life as RESET_TOKEN_TTL_ON_USE and OVERWRITE_NONE_TTL say.
   * @param notBefore the birth of the epoch: what is older is refused.
   * @returns undefined when it is not good.
   */
  return (userId: string, sessionId: string, notBefore: Microseconds): Promise<OpaqueTokenUse | undefined> =>
    ask({ userId, sessionId, notBefore });
}

function readUse(said: string, now: Microseconds): OpaqueTokenUse | undefined {
  if (said === '') return undefined;
  const comma = said.indexOf(',');
  const issuedAt = Number(said.slice(0, comma));
  const left = Number(said.slice(comma + 1));
  return { issuedAt, expiresAt: left < 0 ? null : now / 1000 + left };
}
