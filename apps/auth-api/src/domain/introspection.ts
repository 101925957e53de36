/** Tokens as others hold them: what one is worth now (RFC 7662), and its end by whoever presents it (RFC 7009). */

import { VerifyError } from '@latchkey/verifier/errors';
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import type { ReadToken, Verifier } from '@latchkey/verifier/verifier';
import type { Env } from '../env.ts';
import { knownEpoch, type RevocationLog } from '../store/revocation-log.ts';
import type { SessionStore, Standing } from '../store/sessions.ts';
import type { Clients } from './clients.ts';
import type { Keyring } from './keyring.ts';
import { OPAQUE_PREFIX, readOpaqueToken } from './opaque-token.ts';
import type { OpaqueTokens } from './opaque-tokens.ts';
import { decodeRefreshToken } from './refresh-token.ts';
import type { RevocationService } from './revocation.ts';

type Claims = ReadToken['claims'];

/** A token of this issuer, whether it is good or not. */
export type KnownToken =
  | { kind: 'access'; claims: Claims }
  | { kind: 'opaque' | 'refresh'; userId: string; sessionId: string };

/** RFC 7662 section 2.2. */
export type Introspected =
  | { active: false }
  | ({ active: true; token_type: 'Bearer'; exp?: number } & Partial<Claims> & { sub: string; scope: string });

export type Introspection = ReturnType<typeof createIntrospection>;

export interface IntrospectionOptions {
  sessions: SessionStore;
  clients: Clients;
  opaqueTokens: OpaqueTokens;
  revocation: RevocationService;
  log: RevocationLog;
  copy: RevocationCopy;
  verifier: Pick<Verifier, 'read'>;
  keyring: Keyring;
  env: Pick<Env, 'PUBLIC_URL'>;
}

const INACTIVE = { active: false } as const;

export function createIntrospection(options: IntrospectionOptions) {
  const { sessions, clients, opaqueTokens, revocation, log, copy, verifier, keyring, env } = options;

  /** @returns undefined for what is no token of this issuer. @throws what PostgreSQL throws while the keys are not known. */
  async function read(token: string, expired: boolean): Promise<ReadToken | undefined> {
    try {
      return await verifier.read(token, { expired });
    } catch (error) {
      // What goes wrong with the keys must not look like a token that is not good.
      if (error instanceof VerifyError && error.code !== 'keys_unavailable') return undefined;
      throw error instanceof VerifyError ? error.cause : error;
    }
  }

  async function standingOfClient(id: string): Promise<Standing> {
    const [live, logEnd] = await Promise.all([clients.isLive(id), log.end()]);
    return { live, logEnd };
  }

  /** Sessions and clients by what Redis or PostgreSQL says; single tokens and keys by what the log says. */
  async function isLive({ claims, identity }: ReadToken): Promise<boolean> {
    if (copy.denies(identity)) return false;
    const { live, logEnd } = await (claims.sid === undefined
      ? standingOfClient(claims.sub)
      : sessions.standing(identity.userId, identity.sessionId, identity.issuedAt));
    // What is dead is answered at once; that the copy is behind is then nobody's trouble.
    if (!live) return false;
    await log.copied(logEnd);
    knownEpoch(copy);
    return !copy.denies(identity);
  }

  return {
    /**
     * What an access token is worth, asked of the stores themselves. A refresh token is worth nothing to whoever serves a resource, so it
     * is not active: nobody may get in with one.
     */
    async introspect(token: string): Promise<Introspected> {
      if (token.startsWith(OPAQUE_PREFIX)) {
        const caller = await opaqueTokens.find(token);
        if (!caller) return INACTIVE;
        const { exp, ...rest } = caller;
        return { active: true, token_type: 'Bearer', ...rest, ...(exp !== null && { exp }), iss: env.PUBLIC_URL };
      }
      // What the copy says counts only for the Redis that is there.
      knownEpoch(copy);
      const known = await read(token, false);
      if (!known || !(await isLive(known))) return INACTIVE;
      return { active: true, token_type: 'Bearer', ...known.claims };
    },

    /**
     * Whose token this is. An opaque one says so itself and the store is not asked: anyone who may end it may end the session without it too.
     * @returns undefined for what this issuer never issued.
     */
    async identify(token: string): Promise<KnownToken | undefined> {
      const opaque = readOpaqueToken(token);
      if (opaque) return { kind: 'opaque', userId: opaque.userId, sessionId: opaque.sessionId };
      const refresh = decodeRefreshToken(keyring, token);
      if (refresh) return { kind: 'refresh', userId: refresh.userId, sessionId: refresh.sessionId };
      // Ending a token that has expired still ends what was refreshed from it.
      const known = await read(token, true);
      return known && { kind: 'access', claims: known.claims };
    },

    /** Refuses it everywhere: an access token with what was refreshed from it, another one with its session. */
    async end(token: KnownToken): Promise<void> {
      if (token.kind === 'access') return revocation.denyToken(token.claims.jti);
      await sessions.endOne(token.userId, token.sessionId);
      await log.denySessions(token.userId, [token.sessionId]);
    },
  };
}
