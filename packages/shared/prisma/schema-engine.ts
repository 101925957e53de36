/**
 * Prisma's schema engine as WebAssembly over the same driver the services use, so that no command downloads a native engine (ADR 0002).
 * It reads and writes the ordinary `_prisma_migrations` table and folder layout: Prisma's own CLI stays usable where it can be had.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PrismaPg } from '@prisma/adapter-pg';
import { bindMigrationAwareSqlAdapterFactory, DriverAdapterError } from '@prisma/driver-adapter-utils';
import * as glue from '@prisma/schema-engine-wasm/schema_engine_bg';
import pg from 'pg';
import { kindOf } from './migration-kind.ts';

const folder = import.meta.dirname;
const noFilter = { externalTables: [], externalEnums: [] };

type SchemaEngine = Awaited<ReturnType<typeof glue.SchemaEngine.new>>;

let instantiated: Promise<void> | undefined;

/** The package's own entry imports a `.wasm` module, which Node runs only behind a flag: instantiate it by hand, once. */
function instantiate(): Promise<void> {
  instantiated ??= (async () => {
    const wasm = join(
      dirname(createRequire(import.meta.url).resolve('@prisma/schema-engine-wasm')),
      'schema_engine_bg.wasm',
    );
    const { instance } = await WebAssembly.instantiate(readFileSync(wasm), { './schema_engine_bg.js': { ...glue } });
    const { exports } = instance;
    glue.__wbg_set_wasm(exports);
    const start = exports.__wbindgen_start;
    if (typeof start !== 'function') throw new TypeError('the schema engine has no start function');
    start();
  })();
  return instantiated;
}

function schemaFile() {
  const path = join(folder, 'schema.prisma');
  return { files: [{ path, content: readFileSync(path, 'utf8') }] };
}

/** Where the migrations are. */
const MIGRATIONS_FOLDER = join(folder, 'migrations');

function migrationsList(baseDir: string, names: readonly string[]) {
  const lockfile = 'migration_lock.toml';
  return {
    baseDir,
    lockfile: { path: lockfile, content: readFileSync(join(baseDir, lockfile), 'utf8') },
    shadowDbInitScript: '',
    migrationDirectories: names.map((path) => ({
      path,
      migrationFile: {
        path: 'migration.sql',
        content: { tag: 'ok' as const, value: readFileSync(join(baseDir, path, 'migration.sql'), 'utf8') },
      },
    })),
  };
}

/** The migrations of a folder, in order. */
export const migrationsIn = (baseDir: string): string[] =>
  readdirSync(baseDir, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();

/** SQLSTATE undefined_table */
const NO_TABLE = '42P01';

/** What was begun in this database, finished or not. */
async function begun(databaseUrl: string): Promise<Set<string>> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ name: string }>('SELECT migration_name AS name FROM _prisma_migrations');
    return new Set(rows.map(({ name }) => name));
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === NO_TABLE) return new Set();
    throw error;
  } finally {
    await client.end();
  }
}

/** PrismaPg cuts a script at every semicolon, also inside a function's body. PostgreSQL takes it whole, and as one transaction. */
function adapterForScripts(pool: pg.Pool): PrismaPg {
  const factory = new PrismaPg(pool);
  const connect = factory.connect.bind(factory);
  factory.connect = async () => {
    const adapter = await connect();
    adapter.executeScript = async (script) => {
      try {
        await pool.query(script);
      } catch (error) {
        if (!(error instanceof pg.DatabaseError)) throw error;
        const { code = '', severity = 'ERROR', message, detail, hint, column } = error;
        throw new DriverAdapterError({ kind: 'postgres', code, severity, message, detail, hint, column });
      }
    };
    return adapter;
  };
  return factory;
}

async function withEngine<T>(databaseUrl: string, use: (engine: SchemaEngine) => Promise<T>): Promise<T> {
  await instantiate();
  // A pool of our own, because the engine keeps its connection, and with it the advisory lock, until that is closed.
  const pool = new pg.Pool({ connectionString: databaseUrl });
  const adapter = bindMigrationAwareSqlAdapterFactory(adapterForScripts(pool));
  try {
    const engine = await glue.SchemaEngine.new(
      { datamodels: schemaFile().files.map(({ path, content }) => [path, content]) },
      () => {},
      adapter,
    );
    try {
      return await use(engine);
    } finally {
      engine.free();
    }
  } finally {
    await pool.end();
  }
}

/** Milliseconds between two looks at whether another one has finished. */
const LOOK_EVERY = 100;

/**
 * Does something while nobody else does. The engine's own lock is waited for inside a statement, and whoever makes an index CONCURRENTLY under
 * it waits for every statement that began before: a deadlock. Between our looks there is none.
 */
async function alone<T>(databaseUrl: string, use: () => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const held = async () => {
    const { rows } = await client.query<{ held: boolean }>(
      `SELECT pg_try_advisory_lock(hashtextextended('latchkey migrate', 0)) AS held`,
    );
    return rows[0]?.held === true;
  };
  try {
    while (!(await held())) await delay(LOOK_EVERY);
    return await use();
  } finally {
    await client.end();
  }
}

export interface MigrateOptions {
  /** Also what takes away what older builds may use. */
  contract?: boolean;
  /** Where the migrations are, if not with this file. */
  baseDir?: string;
}

/**
 * Applies what is not applied yet, in order. What contracts waits, unless it is asked for, or the database is new: nobody uses that yet.
 * @returns the names of the migrations it applied, and of those it left.
 */
export function applyMigrations(
  databaseUrl: string,
  { contract = false, baseDir = MIGRATIONS_FOLDER }: MigrateOptions = {},
): Promise<{ applied: string[]; left: string[] }> {
  return alone(databaseUrl, async () => {
    const before = await begun(databaseUrl);
    const all = migrationsIn(baseDir);
    const left =
      contract || before.size === 0 ? [] : all.filter((name) => kindOf(name) === 'contract' && !before.has(name));
    return withEngine(databaseUrl, async (engine) => {
      const { appliedMigrationNames } = await engine.applyMigrations({
        migrationsList: migrationsList(
          baseDir,
          all.filter((name) => !left.includes(name)),
        ),
        filters: noFilter,
      });
      return { applied: appliedMigrationNames, left };
    });
  });
}

/**
 * `schema.prisma` as SQL for an empty database: what the next migration is written from, and what the test compares the migrations with.
 * (This engine build cannot describe a live PostgreSQL through the driver adapter, so a diff against a database is not to be had.)
 */
export async function schemaAsSql(databaseUrl: string): Promise<string> {
  return withEngine(databaseUrl, async (engine) => {
    const { stdout } = await engine.diff({
      from: { tag: 'empty' },
      to: { tag: 'schemaDatamodel', ...schemaFile() },
      script: true,
      exitCode: null,
      filters: noFilter,
    });
    return stdout ?? '';
  });
}
