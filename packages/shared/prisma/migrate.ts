/**
 * `pnpm migrate`: applies the migrations to `DATABASE_URL`, before a release is deployed. Several at once are safe: each waits
 * for its turn. `pnpm migrate --contract`, once no instance of an older release runs, also those that take away what such a one may use.
 */
import { parseArgs } from 'node:util';
import { applyMigrations } from './schema-engine.ts';

function options(): { contract: boolean } {
  try {
    return parseArgs({ options: { contract: { type: 'boolean', default: false } } }).values;
  } catch {
    process.stderr.write('usage: pnpm migrate [--contract]\n');
    process.exit(1);
  }
}

const { contract } = options();
const databaseUrl = process.env.DATABASE_URL;
if (!databaseUrl) {
  process.stderr.write(
    'DATABASE_URL is not set: the PostgreSQL to migrate, such as postgresql://user@host:5432/latchkey\n',
  );
  process.exit(1);
}
try {
  const { applied, left } = await applyMigrations(databaseUrl, { contract });
  process.stdout.write(applied.length > 0 ? `applied ${applied.join(', ')}\n` : 'nothing to apply\n');
  if (left.length > 0)
    process.stdout.write(`left ${left.join(', ')}: pnpm migrate --contract, once no older release runs\n`);
  // The engine leaves the 10 s timer of its advisory lock behind.
  process.exit(0);
} catch (error) {
  process.stderr.write(`migration failed: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
