/** A session as its user and as an operator see it. */
import { Type } from 'typebox';
import type { SessionRecord } from '../store/sessions.ts';
import { Instant, Nullable, oneOf } from './schemas.ts';

export const SessionFields = {
  id: Type.String(),
  device_name: Nullable(Type.String()),
  user_agent: Nullable(Type.String()),
  ip: Type.String(),
  token_format: oneOf(['jwt', 'opaque']),
  created_at: Instant,
  last_seen_at: Instant,
  expires_at: Nullable(Instant),
};

const instant = (ms: number) => new Date(ms).toISOString();

export const sessionFields = (session: SessionRecord) => ({
  id: session.id,
  device_name: session.deviceName,
  user_agent: session.userAgent,
  ip: session.ip,
  token_format: session.format,
  created_at: instant(session.createdAt / 1000),
  last_seen_at: instant(session.lastSeenAt / 1000),
  expires_at: session.expiresAt === null ? null : instant(session.expiresAt),
});
