/** Readiness asked in parts: who sends requests here decides what an instance may do without. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { applyMigrations } from '@latchkey/dev-stack/migrations';
import { startPostgres } from '@latchkey/dev-stack/postgres';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { expect, onTestFinished, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { expectProblem } from './expect-problem.ts';
import { testApp } from './test-app.ts';

/** What Kubernetes asks of a pod that is up. */
const [deployment] = parseAllDocuments(readFileSync(join(repositoryRoot, 'infra/k8s/base/auth-api.yaml'), 'utf8'));
const PROBE = String(
  deployment?.getIn(['spec', 'template', 'spec', 'containers', 0, 'readinessProbe', 'httpGet', 'path']),
);

test('PostgreSQL away takes no instance out of a Service whose probe excludes it, while plain /readyz names it', async () => {
  const postgres = await startPostgres({ durable: false });
  onTestFinished(() => postgres.stop());
  await applyMigrations(postgres.url);
  const api = await testApp({ databaseUrl: postgres.url });
  expect((await api.get('/readyz')).statusCode).toBe(200);
  await postgres.stop();

  const plain = await api.get('/readyz');
  expect(plain.statusCode).toBe(503);
  expect(plain.json().checks).toMatchObject({ postgresql: { status: 'down' }, redis: { status: 'up' } });
  const probed = await api.get(PROBE);
  expect({ status: probed.statusCode, body: probed.json() }).toEqual({
    status: 200,
    body: {
      status: 'ready',
      checks: { redis: { status: 'up' }, revocations: { status: 'up' }, staying: { status: 'up' } },
    },
  });
  // What is left decides as before.
  expect((await api.get('/readyz?exclude=redis')).statusCode).toBe(503);
});

test('a check that is not there, and any other parameter, is refused by name: a probe with a slip in it would leave nothing out', async () => {
  const api = await testApp();
  const invalid = { status: 400, code: 'invalid_request' };
  expectProblem(await api.get('/readyz?exclude=postgres'), { ...invalid, pointer: '/query/exclude/0' });
  expectProblem(await api.get('/readyz?exclude=redis&exclude=x'), { ...invalid, pointer: '/query/exclude/1' });
  expectProblem(await api.get('/readyz?excludes=redis'), { ...invalid, pointer: '/query/excludes' });
  const { paths } = (await api.get('/openapi.json')).json();
  expect(paths['/readyz'].get.parameters).toMatchObject([
    { name: 'exclude', in: 'query', required: false, schema: { type: 'array' } },
  ]);
});
