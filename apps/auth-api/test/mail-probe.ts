/** What a test looks at from outside: the rows in PostgreSQL and the keys in the mails. */
import type { Mail } from '@latchkey/dev-stack/mail-store';
import pg from 'pg';
import { expect, vi } from 'vitest';

/** The key in an activation mail; undefined in any other. */
export const keyIn = ({ text }: Pick<Mail, 'text'>): string | undefined =>
  text.match(/\/activate\/([A-Za-z0-9]{32})/)?.[1];

/** Every activation key mailed to an address, the oldest first. */
export const keysMailed = (mails: { mails(to: string): readonly Mail[] }, to: string): string[] =>
  mails
    .mails(to)
    .map(keyIn)
    .filter((key) => key !== undefined);

/** A connection of the test's own. A server that goes away is the next query's trouble. */
export function databaseProbe(databaseUrl: string) {
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 2 });
  pool.on('error', () => undefined);

  async function rows<Row extends pg.QueryResultRow>(sql: string, values: readonly unknown[] = []): Promise<Row[]> {
    return (await pool.query<Row>(sql, [...values])).rows;
  }

  return {
    rows,

    /** The users of an address, the oldest first. */
    users: (email: string) =>
      rows<{ id: string; status: string; password_hash: string; locale: string }>(
        'SELECT id, status::text, password_hash, locale FROM users WHERE email_key = lower($1) ORDER BY created_at',
        [email],
      ),

    owed: () =>
      rows<{ id: string; name: string; payload: Record<string, unknown>; published_at: Date | null }>(
        'SELECT id, name, payload, published_at FROM mail_outbox ORDER BY created_at',
      ),

    /** Resolves once nothing is owed any more: every mail was accepted and its row is gone. */
    async settled(timeout = 20_000): Promise<void> {
      await vi.waitFor(async () => expect(await this.owed()).toEqual([]), { timeout, interval: 50 });
    },

    /** A transaction that stays open until it is told to end. */
    async begin() {
      const client = await pool.connect();
      await client.query('BEGIN');
      return {
        query: (sql: string, values: readonly unknown[]) => client.query(sql, [...values]),
        async end(how: 'COMMIT' | 'ROLLBACK') {
          await client.query(how);
          client.release();
        },
      };
    },

    close: () => pool.end(),
  };
}

export type DatabaseProbe = ReturnType<typeof databaseProbe>;
