/** A session as its user and as an operator see it. */
import { Type } from 'typebox';
import type { SessionRecord } from '../store/sessions.ts';
import { Instant } from './schemas.ts';

export const SessionFields = {
  id: Type.String(),
  device_name: Type.Union([Type.String(), Type.Null()]),
  user_agent: Type.Union([Type.String(), Type.Null()]),
  ip: Type.String(),
  token_format: Type.Union([Type.Literal('jwt'), Type.Literal('opaque')]),
  created_at: Instant,
  last_seen_at: Instant,
  expires_at: Type.Union([Instant, Type.Null()]),
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
