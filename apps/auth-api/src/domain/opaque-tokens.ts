/** Whom an opaque token stands for: a question to the store, which also lets the use renew the token's life. */
import type { Microseconds, SessionStore } from '../store/sessions.ts';
import { USER_SCOPE } from './access-token.ts';
import { readOpaqueToken } from './opaque-token.ts';

export type OpaqueTokens = ReturnType<typeof createOpaqueTokens>;

export function createOpaqueTokens(sessions: SessionStore) {
  return {
    /** @param notBefore the birth of the epoch. @returns undefined for a token that is not good. */
    async find(token: string, notBefore: Microseconds) {
      const read = readOpaqueToken(token);
      if (!read) return undefined;
      const { userId, sessionId, tokenHash } = read;
      const found = await sessions.useOpaqueToken(userId, sessionId, tokenHash, notBefore);
      if (!found) return undefined;
      const exp = found.expiresIn === null ? null : Math.floor((Date.now() + found.expiresIn) / 1000);
      return { sub: userId, sid: sessionId, scope: USER_SCOPE, exp };
    },
  };
}
