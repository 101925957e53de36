/** The access token: a JWT of RFC 9068. */
import type { Microseconds } from '../store/sessions.ts';
import { USER_SCOPE } from './scopes.ts';
import { createClientJti, createJti } from './token-identity.ts';

/** RFC 9068 wants a client; a user who logs in directly came through Latchkey's own API. */
const FIRST_PARTY_CLIENT = 'latchkey';

export interface AccessTokenClaims {
  iss: string;
  sub: string;
  aud: string;
  exp: number;
  iat: number;
  jti: string;
  client_id: string;
  sid: string;
  scope: string;
  /** The session's first login, seconds: kept through every refresh. */
  orig_iat: number;
}

/** Of a token a client got for itself: `sub` is the client, and there is no session. */
export type ClientTokenClaims = Omit<AccessTokenClaims, 'sid' | 'orig_iat'>;

interface Lifetimes {
  issuer: string;
  audience: string;
  /** Seconds. */
  ttl: number;
}

export interface AccessTokenSubject {
  userId: string;
  sessionId: string;
  createdAt: Microseconds;
  issuedAt: Microseconds;
}

export function accessTokenClaims(
  { userId, sessionId, createdAt, issuedAt }: AccessTokenSubject,
  { issuer, audience, ttl }: Lifetimes,
): AccessTokenClaims {
  const iat = Math.floor(issuedAt / 1_000_000);
  return {
    iss: issuer,
    sub: userId,
    aud: audience,
    exp: iat + ttl,
    iat,
    jti: createJti({ userId, sessionId, issuedAt }),
    client_id: FIRST_PARTY_CLIENT,
    sid: sessionId,
    scope: USER_SCOPE,
    orig_iat: Math.floor(createdAt / 1_000_000),
  };
}

/** RFC 9068 section 2.2: `sub` of a client acting for itself is the client. */
export function clientTokenClaims(
  { clientId, scope, issuedAt }: { clientId: string; scope: string; issuedAt: Microseconds },
  { issuer, audience, ttl }: Lifetimes,
): ClientTokenClaims {
  const iat = Math.floor(issuedAt / 1_000_000);
  return {
    iss: issuer,
    sub: clientId,
    aud: audience,
    exp: iat + ttl,
    iat,
    jti: createClientJti(issuedAt),
    client_id: clientId,
    scope,
  };
}
