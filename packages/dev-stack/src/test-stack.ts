/**
 * Vitest's `globalSetup`: one real PostgreSQL, one real Redis and one build of our apps for the whole run. The migrations are
 * applied once, to a template that every test file copies (test-database.ts).
 */
import type { TestProject } from 'vitest/node';
import { buildApps } from './built-apps.ts';
import { inheritedEnvironment } from './environment.ts';
import { applyMigrations } from './migrations.ts';
import { startPgBouncer } from './pgbouncer.ts';
import { startPostgres } from './postgres.ts';
import { stopAllProcesses } from './processes.ts';
import { TEMPLATE_DATABASE } from './test-database.ts';
import { startTestRedis } from './test-redis.ts';

/** initdb takes the machine's: what is written and read there must not depend on it. */
const SOMEBODYS_ZONE = 'Asia/Kathmandu';

declare module 'vitest' {
  interface ProvidedContext {
    /** Admin URL of the run's PostgreSQL, for `createTestDatabase`. */
    readonly databaseUrl: string;
    /** The same with no pooler before it, for what is PostgreSQL's own: roles, sessions, the locks of a migration. */
    readonly serverUrl: string;
    /** The run's Redis. Files that run at the same time share it, so each keeps to keys of its own users. */
    readonly redisUrl: string;
  }
}

/** Starts both and builds, and hands vitest what stops them. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  try {
    const [postgres, redis] = await Promise.all([
      startPostgres({ database: TEMPLATE_DATABASE, durable: false, timezone: SOMEBODYS_ZONE }),
      startTestRedis(),
      buildApps(),
    ]);
    await applyMigrations(postgres.url);
    // `LATCHKEY_TEST_DATABASE=pgbouncer`: every suite reaches PostgreSQL through a pooler in transaction mode.
    const pooler =
      inheritedEnvironment().LATCHKEY_TEST_DATABASE === 'pgbouncer' && (await startPgBouncer(postgres.adminUrl));
    project.provide('databaseUrl', pooler ? pooler.through(postgres.adminUrl) : postgres.adminUrl);
    project.provide('serverUrl', postgres.adminUrl);
    project.provide('redisUrl', redis.url);
  } catch (error) {
    // Without a teardown vitest would wait for whatever did start.
    await stopAllProcesses();
    throw error;
  }
  return () => stopAllProcesses();
}
