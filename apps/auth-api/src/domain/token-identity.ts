/**
 * The `jti` of an access token: base64url of the instant of issue (microseconds, 8 bytes) ‖ 4 random bytes ‖ user id ‖ session id.
 * So the order finer than `iat`'s seconds is kept, and one token can be denied, with what was refreshed from it, by its `jti` alone.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { readUuid, writeUuid } from '@latchkey/shared/uuid';
import type { TokenIdentity } from '@latchkey/verifier/revoked';

const LENGTH = 44;
/** Base64url of 44 bytes: 59 characters, of which the last has 2 bits to spare. */
const TEXT = /^[A-Za-z0-9_-]{58}[AEIMQUYcgkosw048]$/;

/** The `jti` of a client's token: base64url of the instant of issue (8 bytes) ‖ 16 random bytes; it has no session to name. */
const CLIENT_LENGTH = 24;
const CLIENT_TEXT = /^[A-Za-z0-9_-]{32}$/;

export function createClientJti(issuedAt: number): string {
  const bytes = randomBytes(CLIENT_LENGTH);
  bytes.writeBigUInt64BE(BigInt(issuedAt), 0);
  return bytes.toString('base64url');
}

export const isClientJti = (jti: string): boolean => CLIENT_TEXT.test(jti);

export function createJti({ userId, sessionId, issuedAt }: TokenIdentity): string {
  const bytes = Buffer.allocUnsafe(LENGTH);
  bytes.writeBigUInt64BE(BigInt(issuedAt), 0);
  // (randomInt draws from a pool: a call to the system per token would cost as much as reading a refresh token.)
  bytes.writeUInt32BE(randomInt(2 ** 32), 8);
  writeUuid(userId, bytes, 12);
  bytes.write(sessionId, 28, 'base64url');
  return bytes.toString('base64url');
}

/** @returns undefined for anything but the canonical form: one token has one `jti`. */
export function readJti(jti: string): TokenIdentity | undefined {
  if (!TEXT.test(jti)) return undefined;
  const bytes = Buffer.from(jti, 'base64url');
  return {
    userId: readUuid(bytes, 12),
    sessionId: bytes.toString('base64url', 28, 44),
    issuedAt: Number(bytes.readBigUInt64BE(0)),
  };
}
