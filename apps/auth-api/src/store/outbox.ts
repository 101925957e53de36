/** The outbox: mails that are owed, each until a mail server has accepted it. */
import type { Database } from '@latchkey/shared/database';

export interface OwedMail {
  id: string;
  name: string;
  payload: unknown;
}

export type Outbox = ReturnType<typeof createOutbox>;

/** Rows one pass takes: one round trip to the queue, and short enough a transaction. */
const BATCH = 200;
/** Milliseconds: Redis answers within 1 s or the batch is put back. */
const TRANSACTION_TIMEOUT = 5000;

export function createOutbox(db: Database) {
  return {
    /**
     * Hands the oldest unpublished mails to `publish` and marks them published once it has succeeded. Rows another instance holds are
     * skipped; a crash in between leaves them unpublished, and publishing again is harmless (the row's id is the job's).
     * @returns how many it published.
     */
    async publishPending(publish: (mails: OwedMail[]) => Promise<void>): Promise<number> {
      return db.$transaction(
        async (tx) => {
          const mails = await tx.$queryRaw<OwedMail[]>`
            SELECT id, name, payload FROM mail_outbox WHERE published_at IS NULL
            ORDER BY created_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED`;
          if (mails.length === 0) return 0;
          await publish(mails);
          await tx.$executeRaw`UPDATE mail_outbox SET published_at = now() WHERE id = ANY(${mails.map(({ id }) => id)}::uuid[])`;
          return mails.length;
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

    /** Has these published again. */
    async unpublish(ids: readonly string[]): Promise<void> {
      await db.$executeRaw`UPDATE mail_outbox SET published_at = NULL WHERE id = ANY(${ids}::uuid[])`;
    },

    /** Marks them as looked at now, so that the next pass takes the next ones. */
    async touch(ids: readonly string[]): Promise<void> {
      await db.$executeRaw`UPDATE mail_outbox SET published_at = now() WHERE id = ANY(${ids}::uuid[])`;
    },

    async delete(ids: readonly string[]): Promise<void> {
      await db.$executeRaw`DELETE FROM mail_outbox WHERE id = ANY(${ids}::uuid[])`;
    },
  };
}
