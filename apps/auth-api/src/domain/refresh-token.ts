/**
 * The refresh token. It is derived, not stored: user, session, counter and the two instants, and a MAC over them. So the same
 * successor can be given again on any instance, nothing usable lies in Redis, and a token of a session that is gone still tells
 * whether it went by age.
 */
import { timingSafeEqual } from 'node:crypto';
import { readUuid, writeUuid } from '@latchkey/shared/uuid';
import type { Microseconds } from '../store/sessions.ts';
import type { Keyring } from './keyring.ts';

export interface RefreshTokenContent {
  userId: string;
  sessionId: string;
  /** How many refreshes came before it. */
  counter: number;
  /** The session's first login. */
  createdAt: Microseconds;
  issuedAt: Microseconds;
}

const PREFIX = 'lkr_';
const CONTENT_LENGTH = 16 + 16 + 4 + 8 + 8;
const MAC_LENGTH = 32;
const TEXT_LENGTH = Math.ceil(((CONTENT_LENGTH + MAC_LENGTH) * 4) / 3);
const TEXT = new RegExp(`^${PREFIX}[A-Za-z0-9_-]{${TEXT_LENGTH}}$`);

/** `lkr_` and base64url of user id ‖ session id ‖ counter ‖ createdAt ‖ issuedAt ‖ HMAC-SHA-256. */
export function encodeRefreshToken(keyring: Keyring, content: RefreshTokenContent): string {
  const bytes = Buffer.alloc(CONTENT_LENGTH);
  writeUuid(content.userId, bytes, 0);
  bytes.write(content.sessionId, 16, 'base64url');
  bytes.writeUInt32BE(content.counter, 32);
  bytes.writeBigUInt64BE(BigInt(content.createdAt), 36);
  bytes.writeBigUInt64BE(BigInt(content.issuedAt), 44);
  return PREFIX + Buffer.concat([bytes, keyring.refreshTokenMac(bytes)]).toString('base64url');
}

/** @returns undefined for anything this system did not issue. */
export function decodeRefreshToken(keyring: Keyring, token: string): RefreshTokenContent | undefined {
  if (!TEXT.test(token)) return undefined;
  const bytes = Buffer.from(token.slice(PREFIX.length), 'base64url');
  const content = bytes.subarray(0, CONTENT_LENGTH);
  if (!timingSafeEqual(bytes.subarray(CONTENT_LENGTH), keyring.refreshTokenMac(content))) return undefined;
  return {
    userId: readUuid(content, 0),
    sessionId: content.toString('base64url', 16, 32),
    counter: content.readUInt32BE(32),
    createdAt: Number(content.readBigUInt64BE(36)),
    issuedAt: Number(content.readBigUInt64BE(44)),
  };
}
