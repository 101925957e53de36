/** `pnpm migrate`: applies the migrations to `DATABASE_URL`. Several at once are safe: the engine takes an advisory lock. */
import { applyMigrations } from './schema-engine.ts';

const databaseUrl = process.env.DATABASE_URL;
if (!databaseUrl) {
  process.stderr.write(
    'DATABASE_URL is not set: the PostgreSQL to migrate, such as postgresql://user@host:5432/latchkey\n',
  );
  process.exit(1);
}
try {
  const applied = await applyMigrations(databaseUrl);
  process.stdout.write(applied.length > 0 ? `applied ${applied.join(', ')}\n` : 'nothing to apply\n');
  // The engine leaves the 10 s timer of its advisory lock behind.
  process.exit(0);
} catch (error) {
  process.stderr.write(`migration failed: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
