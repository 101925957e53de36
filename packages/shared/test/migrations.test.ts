import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import type {} from '@latchkey/dev-stack/test-stack';
import pg from 'pg';
import { expect, inject, test } from 'vitest';
import { schemaAsSql } from '../prisma/schema-engine.ts';

/** What a database looks like to the catalogues: columns and indexes, in a form that can be compared. */
async function shapeOf(url: string) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const columns = await client.query<{ column: string }>(
      `SELECT concat_ws(' ', table_name, column_name, udt_name, is_nullable, column_default) AS column FROM information_schema.columns
       WHERE table_schema = 'public' AND table_name <> '_prisma_migrations' ORDER BY 1`,
    );
    const indexes = await client.query<{ indexdef: string }>(
      `SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> '_prisma_migrations' ORDER BY 1`,
    );
    return { columns: columns.rows.map(({ column }) => column), indexes: indexes.rows.map(({ indexdef }) => indexdef) };
  } finally {
    await client.end();
  }
}

/** What the Prisma schema language cannot say and the migrations add by hand: a part of a table, an expression. */
const handmade = (index: string) => / WHERE | ->> /.test(index);

test('the migrations build what schema.prisma says, and nothing is missing', async () => {
  const migrated = await createTestDatabase(inject('databaseUrl'));
  const described = await createTestDatabase(inject('databaseUrl'));
  try {
    const client = new pg.Client({ connectionString: described.url });
    await client.connect();
    await client.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public');
    await client.query(await schemaAsSql(described.url));
    await client.end();
    const [actual, wanted] = [await shapeOf(migrated.url), await shapeOf(described.url)];
    expect(actual.columns).toEqual(wanted.columns);
    expect(actual.indexes.filter((index) => !handmade(index))).toEqual(wanted.indexes);
  } finally {
    await migrated.drop();
    await described.drop();
  }
});

test('migrating again applies nothing, and two at once do not collide', async () => {
  const database = await createTestDatabase(inject('serverUrl'));
  try {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public');
    await client.end();
    const migrate = async () => {
      const script = new URL('../prisma/migrate.ts', import.meta.url).pathname;
      const { stdout } = await promisify(execFile)(process.execPath, [script], { env: { DATABASE_URL: database.url } });
      return stdout.trim();
    };
    const printed = await Promise.all([migrate(), migrate()]);
    expect(printed.filter((line) => line.startsWith('applied'))).toHaveLength(1);
    expect(printed).toContain('nothing to apply');
    expect(await migrate()).toBe('nothing to apply');
  } finally {
    await database.drop();
  }
});
