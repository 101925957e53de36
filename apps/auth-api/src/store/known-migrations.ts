/** What Prisma's own table says of the migrations (ADR 2). */
import type { Database } from '@latchkey/shared/database';
import type { KnownMigration } from '@latchkey/shared/migrations';
import { NotReady } from '../not-ready.ts';

/** SQLSTATE undefined_table */
const NO_TABLE = /42P01/;
/** SQLSTATE insufficient_privilege */
const NO_RIGHT = /42501/;

/** @returns those that were not rolled back. @throws {NotReady} when it can't be read; else what the database throws. */
export async function knownMigrations(db: Database): Promise<KnownMigration[]> {
  try {
    return await db.$queryRaw<KnownMigration[]>`
      SELECT migration_name AS name, bool_or(finished_at IS NOT NULL) AS finished FROM _prisma_migrations
      WHERE rolled_back_at IS NULL GROUP BY migration_name ORDER BY migration_name`;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if (NO_TABLE.test(error.message)) return [];
    if (NO_RIGHT.test(error.message))
      throw new NotReady('the role of DATABASE_URL may not read _prisma_migrations: grant it SELECT');
    throw error;
  }
}
