/** The database itself, for the commands that can't ask the API. */
import { userInfo } from 'node:os';
import pg from 'pg';
import { Failure } from './failure.ts';

/** Who is at the machine, for the audit log: a container's user may have a number and no name. */
export function operatorName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`;
  }
}

/** Milliseconds */
const CONNECT_WITHIN = 5000;

/** SQLSTATE undefined_table, undefined_column, undefined_function */
const NOT_MIGRATED = new Set(['42P01', '42703', '42883']);

/** SQLSTATE of a database that is starting, stopping or has no connection left: class 08, too_many_connections, 57P01 to 57P05. */
const NOT_READY = /^(?:08|53300|57P)/;

/**
 * Does something on a connection of its own.
 * @param refusals what a SQLSTATE means here.
 * @throws {Failure} in words that hold nothing of what was sent.
 */
export async function withDatabase<T>(
  url: string,
  refusals: Readonly<Record<string, string>>,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_WITHIN });
  // A connection that is lost fails the query that is under way; without a listener it would end the process.
  client.on('error', () => {});
  try {
    await client.connect();
    return await work(client);
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (!(error instanceof pg.DatabaseError))
      throw new Failure('unavailable', "DATABASE_URL can't be reached: is the database up?");
    const code = error.code ?? '';
    if (NOT_MIGRATED.has(code)) throw new Failure('refused', 'the database is not migrated: run pnpm migrate');
    if (NOT_READY.test(code)) throw new Failure('unavailable', `the database is not ready (SQLSTATE ${code})`);
    throw new Failure('refused', refusals[code] ?? `the database refused with SQLSTATE ${code}`);
  } finally {
    await client.end().catch(() => {});
  }
}
