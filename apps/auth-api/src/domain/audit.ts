/**
 * Recording who did what. What an operator does is recorded or has failed. What a user does with a session is recorded beside the answer,
 * which it neither delays nor fails: a login that fails must take as long for an address nobody has, and the end of a session must not
 * wait for PostgreSQL. (What users do that PostgreSQL is written for anyway is recorded in that same statement: store/users.ts.)
 *
 * Such events are gathered for some milliseconds and recorded together. Those that could not be recorded are tried again; a process that
 * is killed loses what it had gathered (ADR 11).
 */
import { randomUUID } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import { unavailableDependency } from '../dependency-errors.ts';
import type { AuditEvent, AuditFilter, AuditStore, AuditType, RecordedEvent } from '../store/audit.ts';
import type { RequestContext } from './request-context.ts';

/** Events that may wait at once; far more than gather meanwhile. What comes on top is logged instead. */
const MOST_WAITING = 1000;
/** Milliseconds in which events gather: one statement for all of them, where each login would pay for its own. */
const GATHER = 20;
/** Milliseconds between a try of one event that failed and the next try. */
const PAUSE = 500;
/** Milliseconds a reader of the log waits at most for what was noted before: with the statement that reads, within the 2 s of an answer. */
const READ_AFTER = 700;
/** Milliseconds in which to record what waits when the app closes; what is left then is logged. */
const CLOSE_WITHIN = 3000;

export type Audit = ReturnType<typeof createAudit>;

export function createAudit(store: AuditStore, logger: Logger) {
  /** Not tried yet. */
  let fresh: AuditEvent[] = [];
  /** Could not be recorded: tried one at a time, between what is fresh, so that one that can't be recorded holds no other up. */
  let again: AuditEvent[] = [];
  let writing: Promise<void> | undefined;
  /** Events that were noted, and those of them that have been tried. */
  let [noted, tried] = [0, 0];
  /** Told each time some have. */
  const rounds = new EventEmitter();
  // As many as read the log at once.
  rounds.setMaxListeners(0);
  let state: 'open' | 'closing' | 'closed' = 'open';

  const lost = (event: AuditEvent, error?: unknown) =>
    logger.error(
      { err: error, type: event.type, user_id: event.userId, request_id: event.context?.requestId },
      'an event is missing in the audit log',
    );

  async function recordFresh(): Promise<void> {
    const events = [...fresh];
    if (events.length === 0) return;
    try {
      await store.record(...events);
      fresh.splice(0, events.length);
    } catch {
      again.push(...fresh.splice(0, events.length));
    }
    tried += events.length;
    rounds.emit('tried');
  }

  /** Waits until all that was noted so far has been tried, for {@link READ_AFTER} at most. */
  async function settled(): Promise<void> {
    const upTo = noted;
    const signal = AbortSignal.timeout(READ_AFTER);
    while (tried < upTo && !signal.aborted) await once(rounds, 'tried', { signal }).catch(() => undefined);
  }

  /** @returns false when it has to wait; what would fail for ever is given up. */
  async function recordOne(): Promise<boolean> {
    const [event] = again;
    if (!event) return true;
    try {
      await store.record(event);
      again.shift();
      return true;
    } catch (error) {
      // None: given up meanwhile, the app has closed.
      const postponed = again.splice(0, 1);
      const later = unavailableDependency(error) !== undefined;
      if (later) again.push(...postponed);
      else for (const failed of postponed) lost(failed, error);
      return !later;
    }
  }

  /** One statement at a time, until nothing waits. */
  async function write(): Promise<void> {
    let pause = GATHER;
    while (fresh.length + again.length > 0) {
      await setTimeout(pause);
      await recordFresh();
      const goesOn = await recordOne();
      pause = goesOn || state === 'closing' ? GATHER : PAUSE;
    }
    writing = undefined;
  }

  /** Records beside the answer; what can't be recorded is logged. */
  function note(event: AuditEvent): void {
    if (state === 'closed' || fresh.length + again.length >= MOST_WAITING) {
      lost(event);
      return;
    }
    noted += 1;
    fresh.push({ id: randomUUID(), at: new Date(), ...event });
    writing ??= write();
  }

  return {
    record: store.record,
    note,

    /** The newest first; what this instance has answered is among them. */
    async list(filter: AuditFilter): Promise<RecordedEvent[]> {
      await settled();
      return store.list(filter);
    },

    /** {@link note} of what a user did with their own account. */
    noteOwn(type: AuditType, userId: string, context: RequestContext, details?: AuditEvent['details']): void {
      note({ type, actor: { type: 'user', id: userId }, userId, context, ...(details && { details }) });
    },

    /** Waits until nothing waits, for {@link CLOSE_WITHIN} at most. */
    async close(): Promise<void> {
      state = 'closing';
      const late = new AbortController();
      await Promise.race([writing, setTimeout(CLOSE_WITHIN, undefined, { signal: late.signal })]);
      late.abort();
      state = 'closed';
      for (const event of [...again, ...fresh]) lost(event);
      [fresh, again] = [[], []];
    },
  };
}
