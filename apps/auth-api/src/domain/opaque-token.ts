/**
 * The opaque token: `lko_`, then base64url of user id ‖ session id ‖ 32 random bytes ‖ CRC-32 of what is before it. The prefix lets leak
 * scanners find it; the checksum lets a typo cost no look-up. Only its SHA-256 is stored.
 */
import { hash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

export const OPAQUE_PREFIX = 'lko_';
const CONTENT_LENGTH = 16 + 16 + 32;
/** 68 bytes are 91 characters with 2 bits to spare, which are zero: one token has one spelling. */
const TEXT = new RegExp(`^${OPAQUE_PREFIX}[A-Za-z0-9_-]{90}[AEIMQUYcgkosw048]$`);

export interface OpaqueToken {
  userId: string;
  sessionId: string;
  /** Base64url SHA-256 of the token as it is written. */
  tokenHash: string;
}

const hashOf = (token: string): string => hash('sha256', token, 'base64url');

/** A new token of a session. @returns the token, and the hash that may be stored. */
export function createOpaqueToken(userId: string, sessionId: string): { token: string; tokenHash: string } {
  const bytes = Buffer.alloc(CONTENT_LENGTH + 4);
  bytes.write(userId.replaceAll('-', ''), 0, 'hex');
  bytes.write(sessionId, 16, 'base64url');
  randomBytes(32).copy(bytes, 32);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, CONTENT_LENGTH)), CONTENT_LENGTH);
  const token = OPAQUE_PREFIX + bytes.toString('base64url');
  return { token, tokenHash: hashOf(token) };
}

/** @returns undefined for what can't be a token of ours; whether it is one, the store knows. */
export function readOpaqueToken(token: string): OpaqueToken | undefined {
  if (!TEXT.test(token)) return undefined;
  const bytes = Buffer.from(token.slice(OPAQUE_PREFIX.length), 'base64url');
  if (bytes.readUInt32BE(CONTENT_LENGTH) !== crc32(bytes.subarray(0, CONTENT_LENGTH))) return undefined;
  return {
    userId: bytes.toString('hex', 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    sessionId: bytes.toString('base64url', 16, 32),
    tokenHash: hashOf(token),
  };
}
