/**
 * Recording who did what. What an operator does is recorded or has failed. What a user does with a session is recorded beside the answer,
 * which it neither delays nor fails: a login that fails must take as long for an address nobody has, and a logout must work while
 * PostgreSQL is away. (What users do that PostgreSQL is written for anyway is recorded in that same statement: store/users.ts.)
 */
import type { Logger } from 'pino';
import type { AuditEvent, AuditStore, AuditType } from '../store/audit.ts';
import type { RequestContext } from './request-context.ts';

/** Events on their way at once; far more than there are connections. What comes on top is logged instead. */
const MOST_PENDING = 1000;

export type Audit = ReturnType<typeof createAudit>;

export function createAudit(store: AuditStore, logger: Logger) {
  const pending = new Set<Promise<void>>();

  /** Records beside the answer; what can't be recorded is logged. */
  function note(event: AuditEvent): void {
    const lost = (error?: unknown) =>
      logger.error(
        { err: error, type: event.type, user_id: event.userId, request_id: event.context.requestId },
        'an event is missing in the audit log',
      );
    if (pending.size >= MOST_PENDING) {
      lost();
      return;
    }
    const recorded = store
      .record(event)
      .catch(lost)
      .finally(() => pending.delete(recorded));
    pending.add(recorded);
  }

  return {
    record: store.record,
    list: store.list,
    note,

    /** {@link note} of what a user did with their own account. */
    noteOwn(type: AuditType, userId: string, context: RequestContext, details?: AuditEvent['details']): void {
      note({ type, actor: { type: 'user', id: userId }, userId, context, ...(details && { details }) });
    },

    /** Waits for what is on its way. */
    async close(): Promise<void> {
      await Promise.all(pending);
    },
  };
}
