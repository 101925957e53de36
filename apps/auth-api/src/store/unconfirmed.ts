/** Forgetting registrations that nobody has confirmed, or will: in parts, since anybody may make many and have much recorded of them. */
import type { Database } from '@latchkey/shared/database';
import { Prisma } from '@latchkey/shared/generated/prisma/client';
import { forgetEvents } from './audit.ts';
import type { WithdrawMails } from './users.ts';

/** Registrations forgotten in one transaction, which has to be short. */
export const FORGOTTEN_AT_ONCE = 200;

/** {@link forgetEvents} of a registration, unless it was confirmed. */
export const forgetEventsOf = (db: Database, userId: string): Promise<boolean> =>
  forgetEvents(db, Prisma.sql`id = ${userId}::uuid AND status = 'pending'`);

/**
 * Forgets those of the registrations that nobody has confirmed meanwhile; those that lost to another registration of their address among them
 * (the unique index keeps them from ever being activated). What was recorded since {@link forgetEventsOf} and is personal goes with them, and the
 * mails they are owed.
 * @param withdrawMails takes these out of the queue; while it can't, none of them is forgotten.
 * @returns how many.
 */
export const forgetUnconfirmed = (
  db: Database,
  ids: readonly string[],
  withdrawMails: WithdrawMails,
): Promise<number> =>
  db.$transaction(async (tx) => {
    const [gone] = await tx.$queryRaw<{ users: number; mails: string[] }[]>`
      WITH gone AS (
        DELETE FROM users WHERE id = ANY(${ids}::uuid[]) AND status = 'pending' RETURNING id
      ), mails AS (
        DELETE FROM mail_outbox USING gone WHERE payload ->> 'user_id' = gone.id::text RETURNING mail_outbox.id
      ), withdrawn AS (
        INSERT INTO mail_withdrawals (id) SELECT id FROM mails
      )
      SELECT (SELECT count(audit_forget(id, NULL))::int FROM gone) AS users,
        (SELECT coalesce(array_agg(id::text), '{}') FROM mails) AS mails`;
    const { users, mails } = gone ?? { users: 0, mails: [] };
    await withdrawMails(mails);
    return users;
  });
