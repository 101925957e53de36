/** Tokens as others hold them: what one is worth now (RFC 7662), and its end by whoever presents it (RFC 7009). */
import type { Epoch, RevocationCopy } from '@latchkey/verifier/revocation-copy';
import { createVerifier } from 'fast-jwt';
import type { Env } from '../env.ts';
import { NotReady } from '../not-ready.ts';
import type { RevocationLog } from '../store/revocation-log.ts';
import type { SessionStore } from '../store/sessions.ts';
import type { AccessTokenClaims, ClientTokenClaims } from './access-token.ts';
import type { Clients } from './clients.ts';
import type { Keyring } from './keyring.ts';
import { readOpaqueToken } from './opaque-token.ts';
import type { OpaqueTokens } from './opaque-tokens.ts';
import { decodeRefreshToken } from './refresh-token.ts';
import type { RevocationService } from './revocation.ts';
import type { SigningKeys } from './signing-keys.ts';
import { identityOf } from './token-identity.ts';

type Claims = AccessTokenClaims | ClientTokenClaims;

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
  signingKeys: SigningKeys;
  keyring: Keyring;
  env: Pick<Env, 'PUBLIC_URL' | 'TOKEN_AUDIENCE'>;
}

const INACTIVE = { active: false } as const;

export function createIntrospection(options: IntrospectionOptions) {
  const { sessions, clients, opaqueTokens, revocation, log, copy, signingKeys, keyring, env } = options;
  const key = ({ header }: { header: { kid?: unknown } }) =>
    signingKeys.publicPem(typeof header.kid === 'string' ? header.kid : '');
  const rules = {
    key,
    allowedIss: env.PUBLIC_URL,
    allowedAud: env.TOKEN_AUDIENCE,
    checkTyp: 'at+jwt',
    requiredClaims: ['exp', 'iat', 'sub', 'client_id', 'jti'],
    cache: false,
  };
  const verify = createVerifier(rules);
  // Ending a token that has expired still ends what was refreshed from it.
  const verifyOrigin = createVerifier({ ...rules, ignoreExpiration: true });

  async function read(token: string, verifier: typeof verify): Promise<Claims | undefined> {
    // Before: what goes wrong with the keys must not look like a token that is not good.
    await signingKeys.ensure();
    try {
      return (await verifier(token)) as Claims;
    } catch {
      return undefined;
    }
  }

  function epoch(): Epoch {
    const known = copy.fresh() ? copy.epoch() : undefined;
    if (!known) throw new NotReady('the revocations are not known at the moment');
    return known;
  }

  async function isLive(claims: Claims): Promise<boolean> {
    const identity = identityOf(claims);
    if (copy.denies(identity)) return false;
    if ('sid' in claims) return sessions.isLive(identity.userId, identity.sessionId, identity.issuedAt);
    return clients.isLive(claims.sub);
  }

  return {
    /**
     * What an access token is worth, asked of the stores themselves. A refresh token is worth nothing to whoever serves a resource, so it
     * is not active: nobody may get in with one.
     */
    async introspect(token: string): Promise<Introspected> {
      const { born } = epoch();
      if (readOpaqueToken(token)) {
        const caller = await opaqueTokens.find(token, born);
        if (!caller) return INACTIVE;
        const { exp, ...rest } = caller;
        return { active: true, token_type: 'Bearer', ...rest, ...(exp !== null && { exp }), iss: env.PUBLIC_URL };
      }
      const claims = await read(token, verify);
      if (!claims || !(await isLive(claims))) return INACTIVE;
      return { active: true, token_type: 'Bearer', ...claims };
    },

    /**
     * Whose token this is. An opaque one says so itself and the store is not asked: who may end it may end the session without it too.
     * @returns undefined for what this issuer never issued.
     */
    async identify(token: string): Promise<KnownToken | undefined> {
      const opaque = readOpaqueToken(token);
      if (opaque) return { kind: 'opaque', userId: opaque.userId, sessionId: opaque.sessionId };
      const refresh = decodeRefreshToken(keyring, token);
      if (refresh) return { kind: 'refresh', userId: refresh.userId, sessionId: refresh.sessionId };
      const claims = await read(token, verifyOrigin);
      return claims && { kind: 'access', claims };
    },

    /** Refuses it everywhere: an access token with what was refreshed from it, another one with its session. @param now milliseconds */
    async end(token: KnownToken, now: number): Promise<void> {
      if (token.kind === 'access') return revocation.denyToken(token.claims.jti, now);
      await sessions.endOne(token.userId, token.sessionId);
      await log.denySessions([token.sessionId], now);
    },
  };
}
