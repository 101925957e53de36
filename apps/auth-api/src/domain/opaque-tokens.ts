/** Whom an opaque token stands for: a question to the store, which also lets the use renew the token's life. */
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import { knownEpoch } from '../store/revocation-log.ts';
import type { SessionStore } from '../store/sessions.ts';
import { USER_SCOPE } from './access-token.ts';
import { readOpaqueToken } from './opaque-token.ts';

export type OpaqueTokens = ReturnType<typeof createOpaqueTokens>;

/** @param copy knows what a shard of Redis that failed over may have forgotten. */
export function createOpaqueTokens(sessions: SessionStore, copy: RevocationCopy) {
  return {
    /** @returns undefined for a token that is not good. */
    async find(token: string) {
      const { born } = knownEpoch(copy);
      const read = readOpaqueToken(token);
      if (!read) return undefined;
      const { userId, sessionId } = read;
      const found = await sessions.useOpaqueToken(userId, sessionId, born);
      if (!found || copy.denies({ userId, sessionId, issuedAt: found.issuedAt })) return undefined;
      const exp = found.expires === null ? null : Math.floor(found.expires / 1000);
      return { sub: userId, sid: sessionId, scope: USER_SCOPE, exp };
    },
  };
}
