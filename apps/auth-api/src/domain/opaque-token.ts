/**
 * The opaque token: `lko_`, then base64url of user id ‖ 32 random bytes ‖ CRC-32 of what is before it. The prefix lets leak scanners find
 * it; the checksum lets a typo cost no look-up. Only its hash is stored, as the id of its session: the first 128 bits of SHA-256, which
 * nobody finds another token for, and which say nothing of the 256 random ones.
 */
import { hash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { readUuid, writeUuid } from '@latchkey/shared/uuid';

export const OPAQUE_PREFIX = 'lko_';
const CONTENT_LENGTH = 16 + 32;
/** 52 bytes are 70 characters with 4 bits to spare, which are zero: one token has one spelling. */
const TEXT = new RegExp(`^${OPAQUE_PREFIX}[A-Za-z0-9_-]{69}[AQgw]$`);

export interface OpaqueToken {
  userId: string;
  sessionId: string;
}

const sessionIdOf = (token: string): string => hash('sha256', token, 'buffer').toString('base64url', 0, 16);

/** A new token, and the id of the session that is to hold it. */
export function createOpaqueToken(userId: string): { token: string; sessionId: string } {
  const bytes = Buffer.alloc(CONTENT_LENGTH + 4);
  writeUuid(userId, bytes, 0);
  randomBytes(32).copy(bytes, 16);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, CONTENT_LENGTH)), CONTENT_LENGTH);
  const token = OPAQUE_PREFIX + bytes.toString('base64url');
  return { token, sessionId: sessionIdOf(token) };
}

/** @returns undefined for what can't be a token of ours; whether it is one, the store knows. */
export function readOpaqueToken(token: string): OpaqueToken | undefined {
  if (!TEXT.test(token)) return undefined;
  const bytes = Buffer.from(token.slice(OPAQUE_PREFIX.length), 'base64url');
  if (bytes.readUInt32BE(CONTENT_LENGTH) !== crc32(bytes.subarray(0, CONTENT_LENGTH))) return undefined;
  return {
    userId: readUuid(bytes, 0),
    sessionId: sessionIdOf(token),
  };
}
