import { expect, test } from 'vitest';
import { allGone, startBench } from './bench-run.ts';

/** All benchmarks, as short as they get, while other suites share the machine. */
const TIMEOUT = 180_000;
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
  samples: number;
}

test('--json gives a row for everything promised, and nothing is left running', { timeout: TIMEOUT }, async () => {
  const run = startBench('--json', '--seconds', '0.1');
  await run.says('✓ auth-api');
  const children = run.children();
  expect(children.length).toBeGreaterThanOrEqual(AT_LEAST);
  expect(await run.exit, run.stderr()).toBe(0);
  await allGone(children);

  const result = JSON.parse(run.stdout()) as { machine: object; seconds: number; rows: JsonRow[] };
  expect(result.machine).toMatchObject({ cores: expect.any(Number), node: process.versions.node });
  expect(result.seconds).toBe(0.1);
  const rows = new Map(result.rows.map((row) => [row.name, row]));
  expect([...rows.keys()]).toEqual(['verify', 'refresh', 'registration', 'login', 'mail', 'mail_latency']);

  for (const [name, row] of rows) {
    if (name === 'mail_latency') continue;
    expect(row.against, name).toMatch(/Fastify hello|argon2id|nodemailer pool/);
    expect(row.ratio, name).toBeGreaterThan(0);
    expect(Math.min(...row.ratios), name).toBeLessThanOrEqual(row.ratio);
    expect(Math.max(...row.ratios), name).toBeGreaterThanOrEqual(row.ratio);
    expect(row.measured.per_second, name).toBeGreaterThan(0);
    expect(row.baseline.per_second, name).toBeGreaterThan(0);
  }
  expect(rows.get('verify')?.measured.p99_ms).toBeGreaterThan(0);
  expect(rows.get('verify')?.baseline.p99_ms).toBeGreaterThan(0);
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
  expect(run.stderr()).toContain('verify, refresh, registration, login, mail');
});
