import { expect, test } from 'vitest';
import { allGone, startBench } from './bench-run.ts';

/** All benchmarks, as short as they get, while other suites share the machine. */
const TIMEOUT = 600_000;
/** PostgreSQL, Redis, auth-api, the reaper. */
const AT_LEAST = 4;

interface Sample {
  per_second: number;
  p99_ms?: number;
}

interface JsonRow {
  name: string;
  against: string;
  ratio: number;
  ratios: number[];
  measured: Sample;
  baseline: Sample;
  p50_ms: number;
  p99_ms: number;
  max_ms: number;
  samples: number;
  bytes_each: number;
}

test('--json gives a row for everything promised, and nothing is left running', { timeout: TIMEOUT }, async () => {
  const run = startBench(
    '--json',
    '--seconds',
    '0.05',
    '--rounds',
    '2',
    '--sessions',
    '15625',
    '--revocations',
    '21',
    '--window',
    '100000',
  );
  await run.says('✓ auth-api');
  const children = run.children();
  expect(children.length).toBeGreaterThanOrEqual(AT_LEAST);
  expect(await run.exit, run.stderr()).toBe(0);
  await allGone(children);

  const result = JSON.parse(run.stdout()) as { machine: object; seconds: number; rows: JsonRow[] };
  expect(result.machine).toMatchObject({ cores: expect.any(Number), node: process.versions.node });
  expect(result.seconds).toBe(0.05);
  const rows = new Map(result.rows.map((row) => [row.name, row]));
  expect([...rows.keys()]).toEqual([
    'verify',
    'opaque',
    'introspection',
    'verify_cpu',
    'verify_cpu_2',
    'verify_cpu_3',
    'seen',
    'seen_mget',
    'unseen',
    'unseen_der',
    'window_ready',
    'window_memory',
    'window_grown',
    'window_verify',
    'window_looked_up',
    'revocation',
    'feed_cpu',
    'refresh',
    'registration',
    'registration_mail_down',
    'login',
    'storm',
    'mail',
    'mail_latency',
    'memory_jwt',
    'memory_opaque',
  ]);

  for (const [name, row] of rows) {
    if (!('ratio' in row)) continue;
    expect(row.against, name).toMatch(
      /Fastify hello|argon2id|nodemailer pool|its p99|one instance|fast-jwt|MGET|node:crypto|of DER|next to none/,
    );
    expect(row.ratio, name).toBeGreaterThan(0);
    expect(row.ratios, name).toHaveLength(2);
    expect(Math.min(...row.ratios), name).toBeLessThanOrEqual(row.ratio);
    expect(Math.max(...row.ratios), name).toBeGreaterThanOrEqual(row.ratio);
    expect(row.measured.per_second, name).toBeGreaterThan(0);
    expect(row.baseline.per_second, name).toBeGreaterThan(0);
  }
  expect(rows.get('verify')?.measured.p99_ms).toBeGreaterThan(0);
  expect(rows.get('verify')?.baseline.p99_ms).toBeGreaterThan(0);
  // The promise, at a 64th of its size: the tables of Redis double as they grow, so a power of two smaller they are as full.
  expect(rows.get('memory_jwt')?.bytes_each).toBeLessThanOrEqual(500);
  expect(rows.get('memory_opaque')?.bytes_each).toBeLessThanOrEqual(400);
  // A tenth of the promise in what it says of a million; whether all of it is held in time `npm run bench` shows on a quiet machine.
  expect(rows.get('window_ready')?.max_ms).toBeLessThan(10_000);
  expect(rows.get('window_memory')?.bytes_each).toBeLessThanOrEqual(150);
  // Five processes have refused each of them: of the session, the user, the token, the client, the key.
  expect(rows.get('revocation')?.samples).toBe(21);
  expect(rows.get('revocation')?.p99_ms).toBeLessThan(10_000);
  const latency = rows.get('mail_latency');
  expect(latency?.p50_ms).toBeGreaterThan(0);
  expect(latency?.p99_ms).toBeGreaterThanOrEqual(latency?.p50_ms ?? Number.NaN);
  expect(latency?.samples).toBeGreaterThanOrEqual(10);
});

test('Ctrl-C ends it with 130 and leaves nothing running', { timeout: TIMEOUT }, async () => {
  const run = startBench('--only', 'verify', '--seconds', '600');
  await run.says('✓ auth-api');
  const children = run.children();
  expect(children.length).toBeGreaterThanOrEqual(AT_LEAST);
  run.interrupt();
  expect(await run.exit, run.stderr()).toBe(130);
  await allGone(children);
  expect(run.stdout()).toBe('');
});

test('a benchmark that does not exist is refused by name, before anything starts', { timeout: TIMEOUT }, async () => {
  const run = startBench('--only', 'verify,logout');
  expect(await run.exit).toBe(1);
  expect(run.stderr()).toContain('"logout"');
  expect(run.stderr()).toContain(
    'verify, opaque, introspection, instances, in-process, window, revocation, feed, refresh, registration',
  );
});
