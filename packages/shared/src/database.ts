/** The connection to PostgreSQL: Prisma over `pg`. */
import { PrismaPg } from '@prisma/adapter-pg';
import { PrismaClient } from './generated/prisma/client.ts';

export type Database = PrismaClient;

/** Milliseconds until a database that does not answer counts as down: inside the 2 s within which a request must be answered. */
const TIMEOUT = 1200;

/**
 * A pool that connects on first use and heals by itself.
 * @param connections most open at once; requests wait at most {@link TIMEOUT} for one.
 */
export function connectDatabase(url: string, onError: (error: Error) => void, connections = 10): Database {
  const adapter = new PrismaPg(
    {
      connectionString: url,
      max: connections,
      connectionTimeoutMillis: TIMEOUT,
      query_timeout: TIMEOUT,
      // A connection whose peer is gone without a FIN (failover, dropped NAT entry) must be noticed.
      keepAlive: true,
      application_name: 'latchkey',
    },
    { onPoolError: onError, onConnectionError: onError },
  );
  // `minimal`: the long format quotes the arguments of the failed call, password hashes among them.
  return new PrismaClient({ adapter, errorFormat: 'minimal' });
}
