/**
 * A change after which a password that was good must open nothing: another password, or the end of the account.
 *
 * A login checks a password, opens a session and then asks for the hash once more (`settled_password_hash`, {@link import('./users.ts')}).
 * The change is made, the sessions are ended, and only then it is committed; meanwhile it holds the lock that question waits for. So a
 * session opened with the former password was there to be ended, or its login learns of the change and gives nobody the tokens. If anything
 * fails, the sessions may have ended, nothing else has happened, and the call can be repeated.
 */
import type { Database } from '@latchkey/shared/database';
import { Prisma } from '@latchkey/shared/generated/prisma/client';
import { type AuditEvent, auditInsert, forgetEvents } from './audit.ts';
import { FORGOTTEN_AT_ONCE, forgetEventsOf, forgetUnconfirmed } from './unconfirmed.ts';
import type { WithdrawMails } from './users.ts';

/** Ends the sessions that the change leaves without grounds, in Redis and nowhere else. @throws what Redis throws. */
export type EndSessions = () => Promise<void>;

/**
 * @param change makes the change; undefined: it was not to be made.
 * @param endSessions is told what `change` returned.
 * @returns what `change` returned.
 */
export function changeCredentials<T>(
  db: Database,
  userId: string,
  change: (tx: Prisma.TransactionClient) => Promise<T | undefined>,
  endSessions: (changed: T) => Promise<void>,
): Promise<T | undefined> {
  return db.$transaction(async (tx) => {
    const changed = await change(tx);
    if (changed === undefined) return undefined;
    await tx.$executeRaw`SELECT pg_advisory_xact_lock(account_lock(${userId}::uuid))`;
    await endSessions(changed);
    return changed;
  });
}

export interface Erasure {
  userId: string;
  /** Only while the password is this one; undefined: whatever it is. */
  presentHash?: string;
  event: AuditEvent;
}

/** Forgets the registrations of an account's address that lost to it, in parts: anybody may have made many, and have had much recorded of them. */
async function forgetRivals(db: Database, account: Prisma.Sql, withdrawMails: WithdrawMails): Promise<void> {
  for (;;) {
    const rivals = await db.$queryRaw<{ id: string }[]>`
      SELECT id FROM users WHERE status = 'pending'
        AND email_key = (SELECT email_key FROM users WHERE ${account} AND status <> 'pending')
      LIMIT ${FORGOTTEN_AT_ONCE}`;
    if (rivals.length === 0) return;
    const ids = rivals.map(({ id }) => id);
    for (const id of ids) while (await forgetEventsOf(db, id));
    await forgetUnconfirmed(db, ids, withdrawMails);
  }
}

/**
 * Deletes the account, the registrations of its address that never became one, the mails they are owed and what the audit log holds of the
 * person, and records it. The log may hold more than one statement can forget in time: what was recorded so far is forgotten before, in
 * parts, as long as the account is there and the password is this one. If it ends half way, the account is still there and the call can be
 * repeated; once the account is gone, nothing of the person is left.
 * @param inRedis ends what is left in Redis of the account; while that can't be done, only events and those registrations have been
 *   forgotten.
 * @returns whether there was such an account.
 */
export async function eraseUser(
  db: Database,
  { userId, presentHash, event }: Erasure,
  inRedis: { endSessions: EndSessions; withdrawMails: WithdrawMails },
): Promise<boolean> {
  const user = Prisma.sql`id = ${userId}::uuid AND password_hash = coalesce(${presentHash ?? null}, password_hash)`;
  while (await forgetEvents(db, user));
  await forgetRivals(db, user, inRedis.withdrawMails);
  const erase = async (tx: Prisma.TransactionClient) => {
    const [gone] = await tx.$queryRaw<{ users: number; mails: string[] }[]>`
      WITH gone AS (
        DELETE FROM users WHERE ${user} RETURNING id
      ), audited AS (
        ${auditInsert(event)} WHERE EXISTS (SELECT FROM gone)
      ), mails AS (
        DELETE FROM mail_outbox USING gone WHERE payload ->> 'user_id' = gone.id::text RETURNING mail_outbox.id
      ), withdrawn AS (
        INSERT INTO mail_withdrawals (id) SELECT id FROM mails
      )
      SELECT (SELECT count(*)::int FROM gone) AS users, (SELECT coalesce(array_agg(id::text), '{}') FROM mails) AS mails`;
    if (gone?.users !== 1) return undefined;
    // A statement of its own: it has to see the event above, and those that were on their way.
    await tx.$executeRaw`SELECT audit_forget(${userId}::uuid, NULL)`;
    return gone.mails;
  };
  const mails = await changeCredentials(db, userId, erase, async (owed) => {
    await inRedis.endSessions();
    await inRedis.withdrawMails(owed);
  });
  return mails !== undefined;
}
