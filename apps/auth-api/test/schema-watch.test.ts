import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { MIGRATIONS } from '@latchkey/shared/migrations';
import pg from 'pg';
import { describe, expect, inject, onTestFinished, test, vi } from 'vitest';
import { activeUser, logIn } from './accounts.ts';
import { expectProblem } from './expect-problem.ts';
import { newAddress, type TestApp, testApp } from './test-app.ts';

const NEWEST = MIGRATIONS.at(-1) ?? '';

/** A migrated database, and what a migration under way or of another release leaves in it. */
async function database(serverUrl = inject('databaseUrl')) {
  const { url, drop } = await createTestDatabase(serverUrl);
  onTestFinished(drop);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  onTestFinished(() => client.end());
  return {
    url,
    client,
    forget: (name: string) => client.query('DELETE FROM _prisma_migrations WHERE migration_name = $1', [name]),
    note: (name: string, { finished = true } = {}) =>
      client.query(
        `INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at, applied_steps_count)
         VALUES (gen_random_uuid(), '', $1, CASE WHEN $2 THEN now() END, 1)`,
        [name, finished],
      ),
    rollBack: (name: string) =>
      client.query('UPDATE _prisma_migrations SET rolled_back_at = now() WHERE migration_name = $1', [name]),
  };
}

const migrationsOf = async (api: TestApp) => {
  const response = await api.get('/readyz');
  return { code: response.statusCode, ...response.json().checks.migrations };
};

/** What needs the database is refused, whether or not it would work; what does not goes on. */
async function expectRefusing(api: TestApp, token?: string): Promise<void> {
  for (const response of [
    await api.register(newAddress()),
    await api.login(newAddress()),
    await api.post('/v1/tokens/refresh', { refresh_token: 'x' }),
    await api.get('/v1/me', token),
    await api.get('/v1/admin/users', token),
    await api.post('/oauth/token'),
  ])
    expectProblem(response, { status: 503, code: 'dependency_unavailable' });
  for (const path of ['/livez', '/metrics', '/.well-known/jwks.json', '/openapi.json'])
    expect((await api.get(path)).statusCode, path).toBe(200);
  if (token) expect((await api.get('/v1/verify', token)).statusCode).toBe(200);
}

test('a database without the newest migration: not ready, naming it, and nothing is done in it, from the first request on', async () => {
  const { url, forget, note } = await database();
  await forget(NEWEST);
  const api = await testApp({ databaseUrl: url });
  await expectRefusing(api);
  expect(await migrationsOf(api)).toEqual({
    code: 503,
    status: 'down',
    reason: `the database is not migrated: run pnpm migrate, it lacks ${NEWEST}`,
  });
  await note(NEWEST);
  expect(await migrationsOf(api)).toEqual({ code: 200, status: 'up' });
  expect((await api.register(newAddress())).statusCode).toBe(202);
});

test('a migration that failed half way counts as missing', async () => {
  const { url, forget, note } = await database();
  await forget(NEWEST);
  await note(NEWEST, { finished: false });
  const api = await testApp({ databaseUrl: url });
  expect((await migrationsOf(api)).reason).toContain(NEWEST);
});

describe('a newer database', () => {
  test('to which was only added is used: a release goes on while the next one is rolled out', async () => {
    const { url, client, note } = await database();
    await note('20990101000000_expand_nickname');
    await client.query('ALTER TABLE users ADD COLUMN nickname TEXT');
    const api = await testApp({ databaseUrl: url });
    expect(await migrationsOf(api)).toEqual({ code: 200, status: 'up' });
    const email = await activeUser(api);
    expect((await api.login(email)).statusCode).toBe(200);
    expect((await api.register(newAddress())).statusCode).toBe(202);
  });

  test.each([
    ['from which something was taken away', '20990101000000_contract_locale', true],
    ['from which something is being taken away', '20990101000000_contract_locale', false],
    ['of which the name says nothing', '20990101000000_locale', true],
  ])('%s is not used, and named', async (_how, name, finished) => {
    const { url, note, rollBack } = await database();
    await note(name, { finished });
    const api = await testApp({ databaseUrl: url });
    await expectRefusing(api);
    const { code, status, reason } = await migrationsOf(api);
    expect([code, status]).toEqual([503, 'down']);
    expect(reason).toMatch(/newer release/);
    expect(reason).toContain(name);
    await rollBack(name);
    expect(await migrationsOf(api)).toEqual({ code: 200, status: 'up' });
  });
});

test('what is taken away under a running instance ends its work within seconds, without anybody asking /readyz', async () => {
  const { url, note, client } = await database();
  const api = await testApp({ databaseUrl: url });
  const { access_token: token } = await logIn(api, await activeUser(api));
  expect((await api.get('/v1/me', token)).statusCode).toBe(200);
  await note('20990101000000_contract_locale');
  await vi.waitFor(async () => expect((await api.get('/v1/me', token)).statusCode).toBe(503), { timeout: 15_000 });
  await expectRefusing(api, token);
  // Nothing behind the requests' back either: a mail that is owed stays as it is.
  await client.query(
    `INSERT INTO mail_outbox (id, name, payload) VALUES (gen_random_uuid(), 'password-changed', '{"to": "ada@example.test"}')`,
  );
  await vi.waitFor(() => expect(api.logs.join('')).toContain('the mail relay cannot work'), { timeout: 10_000 });
  const { rows } = await client.query('SELECT published_at FROM mail_outbox');
  expect(rows).toEqual([{ published_at: null }]);
  expect(api.logs.filter((line) => line.includes('cannot use the database as it is'))).toHaveLength(1);
  expect((await api.get('/metrics')).body).toMatch(/latchkey_dependency_errors_total\{dependency="postgresql"\} [1-9]/);
});

test('a role that may not read the migrations is told what it lacks', async () => {
  const { url, client } = await database(inject('serverUrl'));
  const role = new URL(url).pathname.slice(1).replace('test_', 'role_');
  await client.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`);
  onTestFinished(async () => void (await client.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)));
  await client.query(
    `GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}; REVOKE ALL ON _prisma_migrations FROM ${role}`,
  );
  const limited = new URL(url);
  limited.username = role;
  limited.password = 'secret';
  const api = await testApp({ databaseUrl: limited.href });
  expect((await migrationsOf(api)).reason).toContain('grant it SELECT');
  await client.query(`GRANT SELECT ON _prisma_migrations TO ${role}`);
  expect(await migrationsOf(api)).toEqual({ code: 200, status: 'up' });
});
