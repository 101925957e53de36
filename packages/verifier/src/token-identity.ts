/**
 * What the revocation log knows a token by. A `jti` of the issuer begins with the instant of issue: 8 bytes of microseconds, big-endian, so
 * that the order finer than the seconds of `iat` is kept. A user's is 44 bytes long, a client's 24, both in base64url.
 */
import type { Microseconds, TokenIdentity } from './revoked.ts';

/** 44 bytes: 59 characters, of which the last has 2 bits to spare; or 24 bytes: 32 characters. */
const JTI = /^(?:[A-Za-z0-9_-]{58}[AEIMQUYcgkosw048]|[A-Za-z0-9_-]{32})$/;

/** The instant of issue. @returns 0, older than anything, for a `jti` of another form. */
export function issuedAtOf(jti: string): Microseconds {
  return JTI.test(jti) ? Number(Buffer.from(jti.slice(0, 12), 'base64url').readBigUInt64BE(0)) : 0;
}

/** A client's token has no session: its `jti` stands for one. */
export function identityOf(
  { sub, sid, jti }: { readonly sub: string; readonly sid?: string | undefined; readonly jti: string },
  keyId?: string,
): TokenIdentity {
  return { userId: sub, sessionId: sid ?? jti, issuedAt: issuedAtOf(jti), keyId };
}
