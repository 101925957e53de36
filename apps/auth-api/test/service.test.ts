import { applyMigrations } from '@latchkey/dev-stack/migrations';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, onTestFinished, test, vi } from 'vitest';
import { expectUnavailable, startApi } from './outage-probe.ts';
import { startTestApp, type TestApp, testEnvironment } from './test-app.ts';

let api: TestApp;
beforeAll(async () => {
  api = await startTestApp();
});
afterAll(() => api.close());

interface Operation {
  operationId: string;
  summary: string;
  requestBody?: { required?: boolean };
  responses: Record<string, { content?: Record<string, unknown> }>;
  security?: object[];
}
const operations = async () => {
  const document = (await api.get('/openapi.json')).json() as {
    openapi: string;
    paths: Record<string, Record<string, Operation>>;
  };
  return {
    document,
    list: Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
    ),
  };
};

test('the OpenAPI document lists every route of the contract that exists', async () => {
  const { document, list } = await operations();
  expect(document.openapi).toBe('3.1.0');
  const names = list.map(({ path, method }) => `${method.toUpperCase()} ${path}`);
  expect(names).toEqual(
    expect.arrayContaining([
      'POST /v1/users',
      'POST /v1/activations',
      'GET /v1/activations/{key}',
      'POST /v1/activations/{key}',
      'POST /v1/activations/{key}/renewal',
      'GET /activate/{key}',
      'GET /v1/me',
      'PATCH /v1/me',
      'DELETE /v1/me',
      'PUT /v1/me/password',
      'PUT /v1/me/email',
      'POST /v1/password-resets',
      'GET /v1/password-resets/{key}',
      'POST /v1/password-resets/{key}',
      'GET /reset-password/{key}',
      'POST /v1/email-changes/{key}',
      'POST /v1/tokens',
      'POST /v1/tokens/refresh',
      'GET /v1/sessions',
      'DELETE /v1/sessions/current',
      'DELETE /v1/sessions/{id}',
      'DELETE /v1/sessions',
      'GET /v1/verify',
      'GET /.well-known/jwks.json',
      'GET /livez',
      'GET /readyz',
      'GET /metrics',
    ]),
  );
});

test('the OpenAPI document asks for a body where there must be one, and only there', async () => {
  const { list } = await operations();
  const withBody = list.filter(({ operation }) => operation.requestBody);
  const [must, may] = [true, false].map((required) =>
    withBody
      .filter(({ operation }) => operation.requestBody?.required === required)
      .map(({ path, method }) => `${method.toUpperCase()} ${path}`),
  );
  expect(may?.sort()).toEqual([
    'POST /v1/activations/{key}',
    'POST /v1/activations/{key}/renewal',
    'POST /v1/admin/failed-mails/{id}/retry',
    'POST /v1/admin/keys/rotation',
    'POST /v1/admin/users/{id}/revocations',
    'POST /v1/email-changes/{key}',
    'PUT /v1/admin/users/{id}/suspension',
  ]);
  expect(must).toEqual(expect.arrayContaining(['POST /v1/users', 'POST /v1/admin/tokens/deny', 'PATCH /v1/me']));
});

test('every operation has a name of its own, a summary, and a schema for each way it can end', async () => {
  const { list } = await operations();
  expect(new Set(list.map(({ operation }) => operation.operationId)).size).toBe(list.length);
  for (const { path, method, operation } of list) {
    expect(operation.summary, `${method} ${path}`).toBeTruthy();
    expect(Object.keys(operation.responses), `${method} ${path}`).toEqual(expect.arrayContaining(['500', '503']));
  }
});

test('a refusal is documented as the problem it is', async () => {
  const { document } = await operations();
  const refused = document.paths['/v1/tokens']?.post?.responses['401'];
  expect(Object.keys(refused?.content ?? {})).toEqual(['application/problem+json']);
});

test('the documentation page is served', async () => {
  const response = await api.get('/docs/');
  // Served without TLS, it finds its styles and scripts all the same.
  expect(response.headers['content-security-policy']).toContain("default-src 'self'");
  expect(response.headers['content-security-policy']).not.toContain('upgrade-insecure-requests');
  expect(response.statusCode).toBe(200);
  expect(response.headers['content-type']).toContain('text/html');
});

test('an unknown path is a problem too, and the request id of a sane caller comes back', async () => {
  const response = await api.call('GET', '/nowhere', undefined, { 'x-request-id': 'trace-42' });
  expect(response.statusCode).toBe(404);
  expect(response.headers['x-request-id']).toBe('trace-42');
  expect(response.json()).toMatchObject({
    type: 'urn:latchkey:problem:not_found',
    code: 'not_found',
    status: 404,
    request_id: 'trace-42',
  });
  const insane = await api.call('GET', '/nowhere', undefined, { 'x-request-id': 'a b<script>' });
  expect(insane.headers['x-request-id']).not.toBe('a b<script>');
});

test('a database that is not migrated leaves the app alive but not ready, saying what to do, until it is migrated', async () => {
  const database = await createTestDatabase(inject('databaseUrl'));
  onTestFinished(() => database.drop());
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await client.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public');
  await client.end();
  const environment = testEnvironment({ databaseUrl: database.url, redisUrl: inject('redisUrl') });
  const early = await startApi(environment, { ready: false });
  onTestFinished(() => early.stop().then(() => undefined));
  await vi.waitFor(async () => expect((await early.get('/livez')).status).toBe(200), { timeout: 20_000 });
  const { status, body } = await early.get('/readyz');
  expect(status).toBe(503);
  expect(body.checks).toMatchObject({
    postgresql: { status: 'up' },
    migrations: { status: 'down', reason: expect.stringContaining('pnpm migrate') },
  });
  expectUnavailable(await early.register('ada@example.test'));
  await applyMigrations(database.url);
  await early.becomesReady();
  expect((await early.register('ada@example.test')).status).toBe(202);
});
