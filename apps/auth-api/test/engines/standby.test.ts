import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { applyMigrations } from '@latchkey/dev-stack/migrations';
import { startPostgres } from '@latchkey/dev-stack/postgres';
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { testApp } from '../test-app.ts';
import { settles } from './flow.ts';

test('a PostgreSQL that has become a standby decides nothing: 503 until it is promoted, however well it answers', async () => {
  const postgres = await startPostgres({ durable: false });
  onTestFinished(() => postgres.stop());
  await applyMigrations(postgres.url);
  const api = await testApp({ databaseUrl: postgres.url, env: { RATE_LIMITS: 'off' } });
  const login = async () => (await api.login('nobody@example.test')).statusCode;
  await settles(login, 401);

  await postgres.stop();
  writeFileSync(join(postgres.dataDir, 'standby.signal'), '');
  await postgres.start();
  await settles(login, 503);
  expect((await api.get('/readyz')).json().checks.postgresql.status).toBe('down');

  const operator = new pg.Client({ connectionString: postgres.url });
  await operator.connect();
  const { rows } = await operator.query('SELECT count(*)::int AS users FROM users');
  expect(rows).toEqual([{ users: 0 }]);
  await operator.query('SELECT pg_promote()');
  await operator.end();
  await settles(login, 401);
});
