/** The audit log: who did what to whom, from where, when. It only grows, and holds no secret. */
import type { Database } from '@latchkey/shared/database';
import { Prisma } from '@latchkey/shared/generated/prisma/client';
import type { RequestContext } from '../domain/request-context.ts';

/** Everything that is recorded. */
export const AUDIT_TYPES = [
  'user.registered',
  'user.activated',
  'user.password_changed',
  'user.password_reset',
  'user.email_changed',
  'user.suspended',
  'user.unsuspended',
  'user.tokens_revoked',
  'user.deleted',
  'login.failed',
  'session.created',
  'session.ended',
  'sessions.ended',
  'token.refresh_reused',
  'token.denied',
  'client.created',
  'client.revoked',
] as const;

export type AuditType = (typeof AUDIT_TYPES)[number];

/** `id` null: nobody who proved who they are. */
export interface AuditActor {
  type: 'user' | 'client' | 'operator' | 'system';
  id: string | null;
}

export interface AuditEvent {
  type: AuditType;
  actor: AuditActor;
  /** Whom it happened to; null: no user. */
  userId: string | null;
  /** The request that caused it. */
  context: RequestContext;
  /** What else is worth knowing; never a secret. Of a deleted user `email`, `device_name` and `reason` are erased, nothing else. */
  details?: Record<string, string | number | boolean | null>;
}

export interface RecordedEvent {
  /** Decimal: larger than a JavaScript number may become. */
  id: string;
  at: Date;
  type: string;
  actor: AuditActor;
  userId: string | null;
  ip: string | null;
  userAgent: string | null;
  requestId: string | null;
  details: unknown;
}

export interface AuditFilter {
  userId?: string | undefined;
  type?: string | undefined;
  /** The id of the last event of the page before. */
  cursor?: string | undefined;
  limit: number;
}

export type AuditStore = ReturnType<typeof createAuditStore>;

const COLUMNS = Prisma.raw('audit_events (type, actor_type, actor_id, user_id, ip, user_agent, request_id, details)');

/** `INSERT` of one event: a statement, or the body of a `WITH` beside what it tells of, where a `WHERE` may follow. */
export const auditInsert = ({ type, actor, userId, context, details = {} }: AuditEvent): Prisma.Sql =>
  Prisma.sql`INSERT INTO ${COLUMNS} SELECT ${type}, ${actor.type}::audit_actor, ${actor.id}, ${userId}::uuid,
    ${context.ip}, ${context.userAgent}, ${context.requestId}, ${JSON.stringify(details)}::jsonb`;

/** `INSERT` of an event for each user a `WITH` of that name returned (column `id`), who did it themselves. */
export const auditInsertFrom = (
  from: 'registration' | 'activated' | 'changed',
  type: AuditType,
  context: RequestContext,
): Prisma.Sql =>
  Prisma.sql`INSERT INTO ${COLUMNS} SELECT ${type}, 'user'::audit_actor, id::text, id,
    ${context.ip}, ${context.userAgent}, ${context.requestId}, '{}'::jsonb FROM ${Prisma.raw(from)}`;

export function createAuditStore(db: Database) {
  return {
    /** @throws what PostgreSQL throws: then it is not recorded. */
    async record(event: AuditEvent): Promise<void> {
      await db.$executeRaw(auditInsert(event));
    },

    /** The newest first. */
    async list({ userId, type, cursor, limit }: AuditFilter): Promise<RecordedEvent[]> {
      const rows = await db.auditEvent.findMany({
        where: {
          ...(userId !== undefined && { userId }),
          ...(type !== undefined && { type }),
          ...(cursor !== undefined && { id: { lt: BigInt(cursor) } }),
        },
        orderBy: { id: 'desc' },
        take: limit,
      });
      return rows.map(({ id, actorType, actorId, ...row }) => ({
        ...row,
        id: String(id),
        actor: { type: actorType, id: actorId },
      }));
    },

    /** Takes what is personal out of a deleted user's events; that they happened stays. */
    async forget(userId: string): Promise<void> {
      await db.$executeRaw`SELECT audit_forget(${userId}::uuid)`;
    },
  };
}
