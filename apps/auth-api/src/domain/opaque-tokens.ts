/** Whom an opaque token stands for: a question to the store, which also lets the use renew the token's life. */
import { createBoundedMap } from '@latchkey/verifier/bounded-map';
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import { knownEpoch } from '../store/revocation-log.ts';
import type { SessionStore } from '../store/sessions.ts';
import { readOpaqueToken } from './opaque-token.ts';
import { USER_SCOPE } from './scopes.ts';

/** Tokens remembered at most, about half a KB each. */
const MOST_KEPT = 10_000;

/** Whom it stands for: the user, at a session. */
export interface OpaqueCaller {
  readonly sub: string;
  readonly sid: string;
  readonly scope: string;
  /** Seconds; null: never expires. */
  readonly exp: number | null;
}

export type OpaqueTokens = ReturnType<typeof createOpaqueTokens>;

/** @param copy knows what a shard of Redis that failed over may have forgotten. */
export function createOpaqueTokens(sessions: SessionStore, copy: RevocationCopy) {
  /** Whom good tokens stood for, since reading a token costs as much as asking for it. Whether it is still good is asked each time. */
  const kept = createBoundedMap<OpaqueCaller>(MOST_KEPT);

  return {
    /** @returns the same object for as long as it says the same; undefined for a token that is not good. */
    async find(token: string): Promise<OpaqueCaller | undefined> {
      const { born } = knownEpoch(copy);
      const known = kept.get(token);
      const read = known ? { userId: known.sub, sessionId: known.sid } : readOpaqueToken(token);
      if (!read) return undefined;
      const { userId, sessionId } = read;
      const found = await sessions.useOpaqueToken(userId, sessionId, born);
      if (!found || copy.denies({ userId, sessionId, issuedAt: found.issuedAt })) {
        kept.delete(token);
        return undefined;
      }
      const exp = found.expiresAt === null ? null : Math.floor(found.expiresAt / 1000);
      if (known?.exp === exp) return known;
      const caller = Object.freeze({ sub: userId, sid: sessionId, scope: USER_SCOPE, exp });
      kept.set(token, caller);
      return caller;
    },
  };
}
