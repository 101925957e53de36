/** The connection to PostgreSQL: Prisma over `pg`. */
import { PrismaPg } from '@prisma/adapter-pg';
import pg from 'pg';
import { PrismaClient } from './generated/prisma/client.ts';

export type Database = PrismaClient;

/** Milliseconds until a database that does not answer counts as down: inside the 2 s within which a request must be answered. */
const TIMEOUT = 1200;

export interface DatabaseOptions {
  /** Most open at once; requests wait for one as long as for an answer. */
  connections?: number;
  /** How many times 1.2 s an answer may take; more is for tests that do not ask how fast the machine is. */
  patience?: number;
}

/** A pool that connects on first use and heals by itself. A standby counts as away (ADR 21). */
export function connectDatabase(
  url: string,
  onError: (error: Error) => void,
  { connections = 10, patience = 1 }: DatabaseOptions = {},
): Database {
  const timeout = TIMEOUT * patience;
  const pool = new pg.Pool({
    connectionString: url,
    max: connections,
    connectionTimeoutMillis: timeout,
    query_timeout: timeout,
    // A connection whose peer is gone without a FIN (failover, dropped NAT entry) must be noticed.
    keepAlive: true,
    application_name: 'latchkey',
    // A standby answers with what was true some time ago. A primary becomes one only by a restart, which ends its connections.
    // And Prisma writes and reads an instant without its zone, as if the session's was UTC.
    verify: (client, done) => {
      client
        .query<{ standby: boolean }>(`SELECT pg_is_in_recovery() AS standby, set_config('TimeZone', 'UTC', false)`)
        .then(({ rows }) => done(rows[0]?.standby ? new Error('this PostgreSQL is a standby') : undefined), done);
    },
  });
  // Of a statement that took too long pg forgets the answer, and never sends the ROLLBACK that waits behind it: the transaction stays open, and
  // whoever had the connection next would write in it. Closed at once, it is out of the pool, and PostgreSQL rolls back.
  pool.on('release', (error, client) => {
    if (!error && client.getTransactionStatus() !== 'I') void client.end();
  });
  const adapter = new PrismaPg(pool, {
    disposeExternalPool: true,
    onPoolError: onError,
    onConnectionError: onError,
  });
  // `minimal`: the long format quotes the arguments of the failed call, password hashes among them.
  return new PrismaClient({
    adapter,
    errorFormat: 'minimal',
    // Prisma's own (2 and 5 s), as long as statements are as patient.
    transactionOptions: { maxWait: 2000 * patience, timeout: 5000 * patience },
  });
}
