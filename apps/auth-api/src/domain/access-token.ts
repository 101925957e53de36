/** The access token: a JWT of RFC 9068. */
import { randomBytes } from 'node:crypto';
import type { Microseconds } from '../store/sessions.ts';

/** The scope of a user who logged in with a password. */
const USER_SCOPE = 'account';
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

export interface AccessTokenSubject {
  userId: string;
  sessionId: string;
  createdAt: Microseconds;
  issuedAt: Microseconds;
}

/** `iat` has seconds; the order finer than that is kept in the `jti`: base64url of the issue instant (microseconds, 8 bytes) and 12 random bytes. */
function createJti(issuedAt: Microseconds): string {
  const bytes = randomBytes(20);
  bytes.writeBigUInt64BE(BigInt(issuedAt), 0);
  return bytes.toString('base64url');
}

/** @param ttl seconds */
export function accessTokenClaims(
  { userId, sessionId, createdAt, issuedAt }: AccessTokenSubject,
  { issuer, audience, ttl }: { issuer: string; audience: string; ttl: number },
): AccessTokenClaims {
  const iat = Math.floor(issuedAt / 1_000_000);
  return {
    iss: issuer,
    sub: userId,
    aud: audience,
    exp: iat + ttl,
    iat,
    jti: createJti(issuedAt),
    client_id: FIRST_PARTY_CLIENT,
    sid: sessionId,
    scope: USER_SCOPE,
    orig_iat: Math.floor(createdAt / 1_000_000),
  };
}
