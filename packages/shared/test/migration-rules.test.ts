import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '@latchkey/dev-stack/processes';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import type {} from '@latchkey/dev-stack/test-stack';
import pg from 'pg';
import { describe, expect, inject, onTestFinished, test } from 'vitest';
import { kindOf } from '../prisma/migration-kind.ts';
import { applyMigrations, migrationsIn } from '../prisma/schema-engine.ts';
import { MIGRATIONS, misfit } from '../src/migrations.ts';
import { contracting, contractReason } from './expand-only.ts';

const folder = new URL('../prisma/migrations', import.meta.url).pathname;
/** From before there was a release that could run beside another. */
const BEFORE_THE_RULE = MIGRATIONS.slice(0, 6);

test('a build knows exactly the migrations it was made with', () => {
  expect(MIGRATIONS).toEqual(migrationsIn(folder));
});

test.each(migrationsIn(folder).filter((name) => !BEFORE_THE_RULE.includes(name)))(
  '%s says by its name whether it contracts, says why if it does, and only adds if it does not',
  (name) => {
    const sql = readFileSync(join(folder, name, 'migration.sql'), 'utf8');
    expect(kindOf(name)).toBe(contractReason(sql) === undefined ? 'expand' : 'contract');
    if (kindOf(name) === 'expand') expect(contracting(sql)).toEqual([]);
  },
);

test('only the first migrations say nothing of themselves', () => {
  expect(MIGRATIONS.filter((name) => kindOf(name) === undefined)).toEqual(BEFORE_THE_RULE);
  expect(BEFORE_THE_RULE.at(-1)).toBe('20261125100000_signing_key_life');
});

describe('what only adds', () => {
  test.each([
    'CREATE TABLE "t" ("id" UUID NOT NULL, CONSTRAINT "t_pkey" PRIMARY KEY ("id")); CREATE UNIQUE INDEX "i" ON "t"("id"); ALTER TABLE "t" ADD CONSTRAINT c CHECK (id IS NOT NULL)',
    'ALTER TABLE "users" ADD COLUMN "a" TEXT, ADD COLUMN "b" NUMERIC(4, 2) NOT NULL DEFAULT 0',
    'ALTER TABLE "users" ADD "at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP',
    `ALTER TABLE users ADD COLUMN note TEXT NOT NULL DEFAULT 'drop; table'`,
    'CREATE INDEX CONCURRENTLY "i" ON "users"("email_key")',
    '-- DROP TABLE users;\nCREATE INDEX CONCURRENTLY IF NOT EXISTS "i" ON "users"("email_key");',
    'CREATE FUNCTION "f"() RETURNS VOID LANGUAGE sql AS $$ DELETE FROM users; $$',
    'ALTER TABLE "users" ALTER COLUMN "locale" DROP NOT NULL',
    `ALTER TABLE "users" ALTER COLUMN "locale" SET DEFAULT 'en'`,
    `CREATE TABLE "t" ("id" INT); INSERT INTO "t" VALUES (1)`,
    `CREATE TYPE "kind" AS ENUM ('a')`,
  ])('%s', (sql) => {
    expect(contracting(sql)).toEqual([]);
  });
});

describe('what an older build would not survive, or would have to wait for', () => {
  test.each([
    'DROP TABLE "users"',
    'DROP INDEX "i"',
    'ALTER TABLE "users" DROP COLUMN "locale"',
    'ALTER TABLE "users" ADD COLUMN "a" TEXT, DROP COLUMN "locale"',
    'ALTER TABLE "users" ADD COLUMN "a" TEXT NOT NULL',
    'ALTER TABLE "users" ADD COLUMN "a" UUID NOT NULL DEFAULT gen_random_uuid()',
    'ALTER TABLE "users" ADD COLUMN "a" BIGSERIAL',
    'ALTER TABLE "users" ADD COLUMN "a" TEXT UNIQUE',
    'ALTER TABLE "users" ADD COLUMN "a" UUID REFERENCES "t"("id")',
    'ALTER TABLE "users" ADD CONSTRAINT "c" CHECK (length(locale) > 1)',
    'ALTER TABLE "users" ADD UNIQUE ("locale")',
    'ALTER TABLE "users" RENAME COLUMN "locale" TO "language"',
    'ALTER TABLE "users" RENAME TO "people"',
    'ALTER TABLE ONLY "public"."users" ALTER COLUMN "locale" TYPE VARCHAR(10)',
    'ALTER TABLE "users" ALTER COLUMN "locale" SET NOT NULL',
    'ALTER TABLE "users" ALTER COLUMN "locale" DROP DEFAULT',
    `ALTER TYPE "user_status" ADD VALUE 'gone'`,
    'CREATE INDEX "i" ON "users"("locale")',
    'CREATE UNIQUE INDEX CONCURRENTLY "i" ON "users"("locale")',
    'CREATE INDEX CONCURRENTLY "i" ON "users"("locale"); CREATE TABLE "t" ("id" INT)',
    'CREATE TRIGGER "g" BEFORE INSERT ON "users" FOR EACH ROW EXECUTE FUNCTION "f"()',
    'CREATE OR REPLACE FUNCTION "account_lock"(account UUID) RETURNS BIGINT LANGUAGE sql AS $$ SELECT 1 $$',
    `UPDATE "users" SET locale = 'en'`,
    'DELETE FROM "users"',
    'TRUNCATE "users"',
    'INSERT INTO "users" DEFAULT VALUES',
    `DO $$ BEGIN EXECUTE 'DROP TABLE users'; END $$`,
    'CREATE TABLE "t" ("id" INT); /* ; */ DROP TABLE "users"',
  ])('%s', (sql) => {
    expect(contracting(sql)).toHaveLength(1);
  });
});

describe('a build and a database', () => {
  const own = ['1_init', '20270101000000_expand_a', '20270201000000_contract_b'];
  const done = (...names: string[]) => names.map((name) => ({ name, finished: true }));

  test('belong together when all that was added is there, and what is taken away later may be or not', () => {
    expect(misfit(done(...own), own)).toBeUndefined();
    expect(misfit(done('1_init', '20270101000000_expand_a'), own)).toBeUndefined();
  });

  test('do not when something is missing, or not finished: it is named', () => {
    expect(misfit([], own)).toMatch(/pnpm migrate.* 1_init, 20270101000000_expand_a$/);
    const failed = [...done('1_init'), { name: '20270101000000_expand_a', finished: false }];
    expect(misfit(failed, own)).toMatch(/lacks 20270101000000_expand_a$/);
  });

  test('of a newer release do when it only added', () => {
    const begun = { name: '20270302000000_expand_d', finished: false };
    expect(misfit([...done(...own, '20270301000000_expand_c'), begun], own)).toBeUndefined();
  });

  test.each(['20270301000000_contract_c', '20270301000000_c', 'contract_expand_c', '20270301000000_expanded_c'])(
    'of a newer release do not when it may have taken something away: %s',
    (name) => {
      expect(misfit(done(...own, name), own)).toContain(name);
      expect(misfit([...done(...own), { name, finished: false }], own)).toContain(name);
    },
  );
});

describe('pnpm migrate', () => {
  /** A folder of migrations, each of one statement. */
  function migrations(statements: Record<string, string>): string {
    const baseDir = temporaryFolder('migrations');
    writeFileSync(join(baseDir, 'migration_lock.toml'), 'provider = "postgresql"\n');
    for (const [name, sql] of Object.entries(statements)) {
      mkdirSync(join(baseDir, name));
      writeFileSync(join(baseDir, name, 'migration.sql'), sql);
    }
    return baseDir;
  }

  async function emptyDatabase() {
    const database = await createTestDatabase(inject('databaseUrl'));
    onTestFinished(() => database.drop());
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    onTestFinished(() => client.end());
    await client.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public');
    const columns = async () =>
      (
        await client.query<{ name: string }>(
          `SELECT column_name AS name FROM information_schema.columns WHERE table_name = 't' ORDER BY 1`,
        )
      ).rows.map(({ name }) => name);
    return { url: database.url, client, columns };
  }

  const [init, expand, contract, later] = [
    '20270101000000_init',
    '20270201000000_expand_new',
    '20270301000000_contract_old',
    '20270401000000_expand_index',
  ];
  const all = {
    [init]: 'CREATE TABLE t (id INT, old TEXT)',
    [expand]: 'ALTER TABLE t ADD COLUMN new TEXT',
    [contract]: '-- contract: new has taken its place\nALTER TABLE t DROP COLUMN old',
    [later]: 'CREATE INDEX CONCURRENTLY t_new ON t(new)',
  };

  test('leaves what contracts until it is asked for, and applies what comes after it', async () => {
    const { url, columns } = await emptyDatabase();
    await applyMigrations(url, { baseDir: migrations({ [init]: all[init] as string }) });
    const baseDir = migrations(all);
    expect(await applyMigrations(url, { baseDir })).toEqual({ applied: [expand, later], left: [contract] });
    expect(await columns()).toEqual(['id', 'new', 'old']);
    expect(await applyMigrations(url, { baseDir })).toEqual({ applied: [], left: [contract] });
    expect(await applyMigrations(url, { baseDir, contract: true })).toEqual({ applied: [contract], left: [] });
    expect(await columns()).toEqual(['id', 'new']);
    expect(await applyMigrations(url, { baseDir })).toEqual({ applied: [], left: [] });
  });

  test('applies everything to a new database, where no older release is', async () => {
    const { url, client, columns } = await emptyDatabase();
    const { applied, left } = await applyMigrations(url, { baseDir: migrations(all) });
    expect([applied, left]).toEqual([Object.keys(all), []]);
    expect(await columns()).toEqual(['id', 'new']);
    const valid = await client.query(`SELECT indisvalid FROM pg_index WHERE indexrelid = 't_new'::regclass`);
    expect(valid.rows).toEqual([{ indisvalid: true }]);
  });

  test('of an older release leaves a newer database as it is', async () => {
    const { url, columns } = await emptyDatabase();
    await applyMigrations(url, { baseDir: migrations(all) });
    const older = migrations({ [init]: all[init] as string });
    expect(await applyMigrations(url, { baseDir: older })).toEqual({ applied: [], left: [] });
    expect(await columns()).toEqual(['id', 'new']);
  });
});
