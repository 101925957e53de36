/** Takes over accounts of another system with their password hashes, in the database itself: the API has no way in for a hash. */
import { randomUUID } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import type pg from 'pg';
import { operatorName, withDatabase } from './database.ts';
import { Failure } from './failure.ts';
import { type ImportedAccount, type LineProblem, readLine } from './import-lines.ts';

/** Lines written in one transaction: few enough that one lasts no longer than some milliseconds, and blocks nobody. */
export const BATCH = 500;

export interface ImportReport {
  dry_run: boolean;
  created: number;
  /** Lines whose address has an account already. */
  skipped: number[];
  refused: LineProblem[];
}

interface Numbered {
  line: number;
  account: ImportedAccount;
}

/**
 * Writes a batch and records who was imported, in one statement. Registrations of the same address that nobody has confirmed stay, and can't
 * be confirmed any more. Of a line that comes twice the first one counts.
 * @returns the lines that made an account.
 */
async function write(client: pg.Client, batch: readonly Numbered[]): Promise<Set<number>> {
  const rows = batch.map(({ line, account }) => ({ line, id: randomUUID(), ...account }));
  const column = (of: (row: (typeof rows)[number]) => string | null) => rows.map(of);
  const { rows: created } = await client.query<{ id: string }>(
    `WITH given AS (
       SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
         AS given (id, email, email_key, password_hash, display_name, locale, created_at)
     ), created AS (
       INSERT INTO users (id, email, email_key, status, password_hash, display_name, locale, created_at, activated_at)
       SELECT id, email, email_key, 'active', password_hash, display_name, locale, coalesce(created_at, now()), now()
       FROM given
       ON CONFLICT (email_key) WHERE status <> 'pending' DO NOTHING
       RETURNING id, password_hash
     ), audited AS (
       INSERT INTO audit_events (type, actor_type, actor_id, user_id, details)
       SELECT 'user.imported', 'operator', $8, id,
         jsonb_build_object('password', CASE password_hash WHEN '!' THEN 'none' ELSE split_part(password_hash, '$', 1) END)
       FROM created
     )
     SELECT id FROM created`,
    [
      column(({ id }) => id),
      column(({ email }) => email),
      column(({ emailKey }) => emailKey),
      column(({ passwordHash }) => passwordHash),
      column(({ displayName }) => displayName),
      column(({ locale }) => locale),
      column(({ createdAt }) => createdAt),
      operatorName(),
    ],
  );
  const ids = new Set(created.map(({ id }) => id));
  return new Set(rows.filter(({ id }) => ids.has(id)).map(({ line }) => line));
}

/** {@link write}, and takes it back. @param tried the addresses of the batches before; this one's are added. */
async function tryOut(client: pg.Client, batch: readonly Numbered[], tried: Set<string>): Promise<Set<number>> {
  await client.query('BEGIN');
  const created = await write(
    client,
    batch.filter(({ account }) => !tried.has(account.emailKey)),
  );
  await client.query('ROLLBACK');
  for (const { line, account } of batch) if (created.has(line)) tried.add(account.emailKey);
  return created;
}

/** @throws {Failure} for what is no file that can be read. */
async function opened(file: string): Promise<FileHandle> {
  try {
    const handle = await open(file);
    if (!(await handle.stat()).isDirectory()) return handle;
    await handle.close();
  } catch {
    throw new Failure('usage', `${file} can't be read`);
  }
  throw new Failure('usage', `${file} is a directory`);
}

/** The lines of a file, in batches, read as they are needed. Empty lines are none. */
async function* batches(handle: FileHandle): AsyncGenerator<{ line: number; text: string }[]> {
  let batch: { line: number; text: string }[] = [];
  let line = 0;
  for await (const read of handle.readLines({ encoding: 'utf8' })) {
    line += 1;
    // A byte order mark is no part of the first line.
    const text = (line === 1 ? read.replace(/^\uFEFF/, '') : read).trim();
    if (text !== '') batch.push({ line, text });
    if (batch.length < BATCH) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/**
 * Imports a file. Each batch of {@link BATCH} lines is written whole or not at all; lines that can't be accounts are reported and do not keep
 * the others out. Repeating it after a failure does what is left: accounts that are there are skipped.
 * @param dryRun writes nothing; each batch is tried and taken back, so that no registration has to wait for more than one of them.
 * @throws {Failure} which says how far it had come.
 */
export async function importUsers(databaseUrl: string, file: string, dryRun: boolean): Promise<ImportReport> {
  const report: ImportReport = { dry_run: dryRun, created: 0, skipped: [], refused: [] };
  const handle = await opened(file);
  try {
    await withDatabase(databaseUrl, {}, async (client) => {
      /** Addresses a dry run would have made accounts of: the database has forgotten them. */
      const tried = new Set<string>();
      for await (const batch of batches(handle)) {
        const read = batch.map(({ line, text }) => ({ line, account: readLine(text, line) }));
        const wrong = read.flatMap(({ account }) => (Array.isArray(account) ? account : []));
        const good = read.filter((one): one is Numbered => !Array.isArray(one.account));
        const created = dryRun ? await tryOut(client, good, tried) : await write(client, good);
        report.refused.push(...wrong);
        report.created += created.size;
        report.skipped.push(...good.map(({ line }) => line).filter((line) => !created.has(line)));
      }
    });
  } catch (error) {
    if (!(error instanceof Failure) || dryRun || report.created === 0) throw error;
    const { message, kind } = error;
    throw new Failure(kind, `${message}\n${report.created} accounts were made before that; run it again for the rest`);
  } finally {
    await handle.close();
  }
  return report;
}
