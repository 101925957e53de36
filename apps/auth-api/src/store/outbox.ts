/** The outbox: mails that are owed, each until a mail server has accepted it. */
import type { Database } from '@latchkey/shared/database';
import { Prisma } from '@latchkey/shared/generated/prisma/client';
import type { MailJobName } from '@latchkey/shared/mail-jobs';

export interface OwedMail {
  id: string;
  name: string;
  payload: { readonly traceparent?: string | undefined };
  /** When it was committed. */
  createdAt: Date;
}

export interface Backlog {
  mails: number;
  /** Seconds for which the oldest mail that is not published has been owed; 0 when there is none. */
  unpublishedAge: number;
}

export type Outbox = ReturnType<typeof createOutbox>;

/** Rows one pass takes: one round trip to the queue, and short enough a transaction. */
const BATCH = 200;
/** Milliseconds: Redis answers within 1 s or the batch is put back. */
const TRANSACTION_TIMEOUT = 5000;
/** Mails in which one search looks for dead links: some milliseconds. */
const SEARCHED = 2000;
/** Before every id. */
const NO_MAIL = '00000000-0000-0000-0000-000000000000';

/**
 * SQL that withdraws the link mails of these kinds still owed to the users (`id`) of CTE `of`: deletes their rows and notes them in
 * `mail_withdrawals`, from which a relay tells the queue. Notices (no attempt) stay.
 */
export function withdrawn(of: string, ...kinds: readonly MailJobName[]): Prisma.Sql {
  return Prisma.sql`dead_mails AS (
    DELETE FROM mail_outbox
    WHERE payload ->> 'user_id' IN (SELECT id::text FROM ${Prisma.raw(of)}) AND payload ? 'attempt' AND name = ANY(${kinds})
    RETURNING id
  ), withdrawn AS (
    INSERT INTO mail_withdrawals (id) SELECT id FROM dead_mails
  )`;
}

export function createOutbox(db: Database) {
  return {
    /**
     * Hands the oldest unpublished mails to `publish` and marks them published once it has succeeded. Rows another instance holds are
     * skipped; a crash in between leaves them unpublished, and publishing again is harmless (the row's id is the job's).
     * @returns whether there may be more.
     */
    async publishPending(publish: (mails: OwedMail[]) => Promise<void>): Promise<boolean> {
      return db.$transaction(
        async (tx) => {
          const mails = await tx.$queryRaw<OwedMail[]>`
            SELECT id, name, payload, created_at AS "createdAt" FROM mail_outbox WHERE published_at IS NULL
            ORDER BY created_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED`;
          if (mails.length === 0) return false;
          await publish(mails);
          await tx.$executeRaw`UPDATE mail_outbox SET published_at = now() WHERE id = ANY(${mails.map(({ id }) => id)}::uuid[])`;
          return mails.length === BATCH;
        },
        { timeout: TRANSACTION_TIMEOUT, maxWait: TRANSACTION_TIMEOUT },
      );
    },

    /** Mails published longer ago than `seconds` and not yet reported as accepted, the oldest first. @returns their ids. */
    async publishedBefore(seconds: number): Promise<string[]> {
      const rows = await db.$queryRaw<{ id: string }[]>`
        SELECT id FROM mail_outbox WHERE published_at < now() - make_interval(secs => ${seconds})
        ORDER BY published_at LIMIT ${BATCH}`;
      return rows.map(({ id }) => id);
    },

    /** Whether a mail is owed. @param id a UUID. */
    async owes(id: string): Promise<boolean> {
      const rows = await db.$queryRaw<unknown[]>`SELECT FROM mail_outbox WHERE id = ${id}::uuid`;
      return rows.length > 0;
    },

    /**
     * Settles a mail without sending it: row and job go together. The row is locked first, so that no relay publishes the mail again
     * between the two; if the job stays, or its removal fails, so does the row.
     * @param takeOut removes the job. @returns whether it was removed.
     */
    async discard(id: string, takeOut: () => Promise<boolean>): Promise<boolean> {
      return db.$transaction(
        async (tx) => {
          await tx.$queryRaw`SELECT FROM mail_outbox WHERE id = ${id}::uuid FOR UPDATE`;
          if (!(await takeOut())) return false;
          await tx.$executeRaw`DELETE FROM mail_outbox WHERE id = ${id}::uuid`;
          return true;
        },
        { timeout: TRANSACTION_TIMEOUT, maxWait: TRANSACTION_TIMEOUT },
      );
    },

    /** What is owed at this moment. */
    async backlog(): Promise<Backlog> {
      const [found] = await db.$queryRaw<Backlog[]>`
        SELECT count(*)::int AS mails,
          coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE published_at IS NULL)), 0)::float8 AS "unpublishedAge"
        FROM mail_outbox`;
      return found ?? { mails: 0, unpublishedAge: 0 };
    },

    /** Has these published again. */
    async unpublish(ids: readonly string[]): Promise<void> {
      await db.$executeRaw`UPDATE mail_outbox SET published_at = NULL WHERE id = ANY(${ids}::uuid[])`;
    },

    /** Marks them as looked at now, so that the next pass takes the next ones. */
    async touch(ids: readonly string[]): Promise<void> {
      await db.$executeRaw`UPDATE mail_outbox SET published_at = now() WHERE id = ANY(${ids}::uuid[])`;
    },

    /**
     * Hands mails that are owed no more to `withdraw`, and forgets those it has done with; repeating it is harmless.
     * @returns how many.
     */
    async withdrawPending(withdraw: (ids: string[]) => Promise<string[]>): Promise<number> {
      const rows = await db.$queryRaw<{ id: string }[]>`SELECT id FROM mail_withdrawals LIMIT ${BATCH}`;
      if (rows.length === 0) return 0;
      const done = await withdraw(rows.map(({ id }) => id));
      await db.$executeRaw`DELETE FROM mail_withdrawals WHERE id = ANY(${done}::uuid[])`;
      return done.length;
    },

    /**
     * Withdraws link mails that are owed no more and were missed by the statement that killed their link: committed while it waited for its user's
     * row, they were not in its snapshot (READ COMMITTED takes one a statement); or another account's change took their address.
     * @param after the mail that was looked at last; undefined: from the first.
     * @returns which was looked at last; undefined when there are no more.
     */
    async withdrawMissed(after: string | undefined): Promise<string | undefined> {
      const looked = await db.$queryRaw<{ id: string }[]>`
        WITH owed AS (
          SELECT id, name, payload FROM mail_outbox WHERE id > ${after ?? NO_MAIL}::uuid AND payload ? 'attempt' ORDER BY id LIMIT ${SEARCHED}
        ), dead AS (
          SELECT owed.id FROM owed LEFT JOIN users ON users.id = (owed.payload ->> 'user_id')::uuid
          WHERE users.id IS NULL OR (owed.payload ->> 'attempt')::int < CASE owed.name
            WHEN 'password_reset' THEN users.password_reset_attempt
            WHEN 'email_change' THEN users.email_change_attempt
            WHEN 'activation' THEN users.activation_attempt
          END OR owed.name = 'activation' AND EXISTS (
            SELECT FROM users AS account WHERE account.email_key = users.email_key AND account.status <> 'pending')
        ), dead_mails AS (
          DELETE FROM mail_outbox WHERE id IN (SELECT id FROM dead) RETURNING id
        ), withdrawn AS (
          INSERT INTO mail_withdrawals (id) SELECT id FROM dead_mails
        )
        SELECT id FROM owed ORDER BY id`;
      return looked.length < SEARCHED ? undefined : looked.at(-1)?.id;
    },

    async delete(ids: readonly string[]): Promise<void> {
      await db.$executeRaw`DELETE FROM mail_outbox WHERE id = ANY(${ids}::uuid[])`;
    },
  };
}
