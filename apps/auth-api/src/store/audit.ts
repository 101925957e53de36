/** The audit log: who did what to whom, from where, when. It only grows, and holds no secret. */
import { randomUUID } from 'node:crypto';
import type { Database } from '@latchkey/shared/database';
import { Prisma } from '@latchkey/shared/generated/prisma/client';
import type { RequestContext } from '../domain/request-context.ts';

/** Everything that is recorded. */
export const AUDIT_TYPES = [
  'user.registered',
  'user.imported',
  'user.activation_renewed',
  'user.activated',
  'user.profile_changed',
  'user.password_refused',
  'user.password_changed',
  'user.password_reset_requested',
  'user.password_reset',
  'user.email_change_requested',
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
  'mail.retried',
  'mail.discarded',
  'client.created',
  'client.token_issued',
  'client.revoked',
  'signing_key.rotated',
  'signing_key.revoked',
] as const;

export type AuditType = (typeof AUDIT_TYPES)[number];

/** `id` null: nobody who proved who they are. */
export interface AuditActor {
  type: 'user' | 'client' | 'operator' | 'system';
  id: string | null;
}

export interface AuditEvent {
  /** A UUID, by which it is recorded once, however often that is tried; made if left out. */
  id?: string;
  /** When it happened; if left out, when it is recorded. */
  at?: Date;
  type: AuditType;
  actor: AuditActor;
  /** Whom it happened to; null: no user. */
  userId: string | null;
  /** The request that caused it; null: none did. */
  context: RequestContext | null;
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

const COLUMNS = Prisma.raw(
  'audit_events (event_id, at, type, actor_type, actor_id, user_id, ip, user_agent, request_id, details)',
);

const auditRow = ({ id = randomUUID(), at, type, actor, userId, context, details = {} }: AuditEvent): Prisma.Sql =>
  Prisma.sql`SELECT ${id}::uuid, coalesce(${at ?? null}::timestamptz, now()),
    ${type}, ${actor.type}::audit_actor, ${actor.id}, ${userId}::uuid,
    ${context?.ip ?? null}, ${context?.userAgent ?? null}, ${context?.requestId ?? null}, ${JSON.stringify(details)}::jsonb`;

/** `INSERT` of one event: a statement, or the body of a `WITH` beside what it tells of, where a `WHERE` may follow. */
export const auditInsert = (event: AuditEvent): Prisma.Sql => Prisma.sql`INSERT INTO ${COLUMNS} ${auditRow(event)}`;

/** What somebody unknown asked for in the name of nobody: whom they meant is not in it. */
export const ofNobody = (type: AuditType, context: RequestContext): AuditEvent => ({
  type,
  actor: { type: 'user', id: null },
  userId: null,
  context,
});

/**
 * `INSERT` of an event for each user a `WITH` of that name returned (column `id`).
 * @param by `owner`: they did it themselves; `anyone`: the caller has not proven who they are.
 */
export const auditInsertFrom = (
  from: 'registration' | 'renewed' | 'activated' | 'changed',
  type: AuditType,
  context: RequestContext,
  { by = 'owner', details = {} }: { by?: 'owner' | 'anyone'; details?: AuditEvent['details'] } = {},
): Prisma.Sql =>
  Prisma.sql`INSERT INTO ${COLUMNS} SELECT gen_random_uuid(), now(), ${type}, 'user'::audit_actor,
    ${by === 'owner' ? Prisma.raw('id::text') : Prisma.raw('NULL')}, id,
    ${context.ip}, ${context.userAgent}, ${context.requestId}, ${JSON.stringify(details)}::jsonb FROM ${Prisma.raw(from)}`;

/** Events whose personal data one statement erases: far fewer than would keep the client waiting until it gives up. */
const PART = 500;

/**
 * Erases the personal data of up to {@link PART} events of a user, committed at once; called before an erasure, so that its transaction
 * finds only what was recorded since.
 * @param user `WHERE` of the user's row: where it matches none, nothing is erased.
 * @returns whether there may be more.
 */
export async function forgetEvents(db: Database, user: Prisma.Sql): Promise<boolean> {
  const [part] = await db.$queryRaw<{ events: number }[]>`
    SELECT audit_forget(id, ${PART}::int) AS events FROM users WHERE ${user}`;
  return part?.events === PART;
}

export function createAuditStore(db: Database) {
  return {
    /** Those already recorded are left as they are. @throws what PostgreSQL throws: then, as far as is known, none of them is recorded. */
    async record(...events: readonly AuditEvent[]): Promise<void> {
      await db.$executeRaw`INSERT INTO ${COLUMNS} ${Prisma.join(events.map(auditRow), ' UNION ALL ')}
        ON CONFLICT (event_id) DO NOTHING`;
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
  };
}
