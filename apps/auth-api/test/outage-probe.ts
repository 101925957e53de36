/** What the tests of outages stand on: an app in a process of its own, asked over HTTP with a clock running, and a PostgreSQL that can freeze. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { applyMigrations } from '@latchkey/dev-stack/migrations';
import { type RunningPostgres, startPostgres } from '@latchkey/dev-stack/postgres';
import { type RunningRedis, startRedis } from '@latchkey/dev-stack/redis';
import { expect, vi } from 'vitest';
import { PASSWORD, startAppProcess, testEnvironment } from './test-app.ts';

/** Milliseconds within which every request is answered, whatever is down (issue 2). */
export const ANSWER_WITHIN = 2000;

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Record<string, unknown>;
  /** Milliseconds it took. */
  ms: number;
}

/** Asks the app at `base`, each time on a connection of its own: what stays open afterwards is the app's. */
function httpClient(base: string) {
  async function ask(method: string, path: string, payload?: object, token?: unknown): Promise<Answer> {
    const asked = performance.now();
    const asking = request(`${base}${path}`, {
      method,
      agent: false,
      headers: {
        ...(payload && { 'content-type': 'application/json' }),
        ...(typeof token === 'string' && { authorization: `Bearer ${token}` }),
      },
    });
    asking.end(payload && JSON.stringify(payload));
    const [response]: IncomingMessage[] = await once(asking, 'response');
    if (!response) throw new Error('no response');
    const content = await text(response);
    const { statusCode = 0, headers } = response;
    const body = headers['content-type']?.includes('json') ? JSON.parse(content) : { text: content };
    return { status: statusCode, headers, body, ms: performance.now() - asked };
  }

  return {
    get: (path: string, token?: unknown) => ask('GET', path, undefined, token),
    post: (path: string, payload: object = {}) => ask('POST', path, payload),
    delete: (path: string, token?: unknown) => ask('DELETE', path, undefined, token),
    register: (email: string, password = PASSWORD) => ask('POST', '/v1/users', { email, password }),
    resend: (email: string) => ask('POST', '/v1/activations', { email }),
    login: (email: string, password = PASSWORD) => ask('POST', '/v1/tokens', { email, password }),
    refresh: (refresh_token: unknown) => ask('POST', '/v1/tokens/refresh', { refresh_token }),

    /** The value of one sample of `/metrics`; zero when there is none. */
    async metric(sample: string): Promise<number> {
      const { body } = await ask('GET', '/metrics');
      const line = String(body.text)
        .split('\n')
        .find((one) => one.startsWith(`${sample} `));
      return Number(line?.slice(sample.length) ?? 0);
    },
  };
}

/** Asserts the answer every request gets that needs what is down. */
export function expectUnavailable({ status, headers, body, ms }: Answer, dependency?: 'postgresql' | 'redis'): void {
  expect({ status, body }).toMatchObject({
    status: 503,
    body: { status: 503, code: 'dependency_unavailable', request_id: headers['x-request-id'] },
  });
  if (dependency !== undefined) expect(body.detail).toBe(`${dependency} is not available`);
  expect(headers['content-type']).toMatch(/^application\/problem\+json/);
  expect(Number(headers['retry-after'])).toBeGreaterThan(0);
  expect(ms).toBeLessThan(ANSWER_WITHIN);
}

/** Every process of a PostgreSQL server: its children lead sessions of their own, so a signal to the group does not reach them. */
function postgresProcesses({ dataDir }: RunningPostgres): number[] {
  const postmaster = Number(readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n', 1)[0]);
  const all = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  return [postmaster, ...all.filter(([, parent]) => parent === postmaster).map(([pid = 0]) => pid)];
}

/** It keeps its connections, accepts new ones (the kernel does) and answers nothing. @returns what has it go on. */
export function freezePostgres(postgres: RunningPostgres): () => void {
  const frozen = postgresProcesses(postgres);
  for (const pid of frozen) process.kill(pid, 'SIGSTOP');
  return () => {
    for (const pid of frozen) {
      try {
        process.kill(pid, 'SIGCONT');
      } catch {
        // A backend whose client has left may be gone.
      }
    }
  };
}

export interface OwnStack {
  postgres: RunningPostgres;
  redis: RunningRedis;
  environment: Record<string, string>;
}

/** A PostgreSQL with our schema and a Redis that a test may stop, and the environment of an app on them. */
export async function ownStores(more: Record<string, string> = {}): Promise<OwnStack & { stop(): Promise<void> }> {
  const [postgres, redis] = await Promise.all([startPostgres({ durable: false }), startRedis()]);
  await applyMigrations(postgres.url);
  const environment = testEnvironment({ databaseUrl: postgres.url, redisUrl: redis.url }, more);
  return {
    postgres,
    redis,
    environment,
    async stop() {
      await Promise.all([postgres.stop(), redis.stop()]);
    },
  };
}

/** auth-api in a process of its own, with a client. */
export async function startApi(environment: Record<string, string>, options?: { ready?: boolean }) {
  const started = await startAppProcess('auth-api', environment, options);
  const client = httpClient(started.url);
  return {
    ...started,
    ...client,

    /** Resolves once `/readyz` says so. */
    async becomesReady(): Promise<void> {
      await vi.waitFor(async () => expect(await client.get('/readyz')).toMatchObject({ status: 200 }), {
        timeout: 20_000,
        interval: 50,
      });
    },

    /** The lines it has logged at `error` and above (pino: 50). */
    errors: () =>
      started.output
        .filter((line) => line.startsWith('{'))
        .map((line): Record<string, unknown> => JSON.parse(line))
        .filter(({ level }) => Number(level) >= 50),
  };
}

export type OwnApi = Awaited<ReturnType<typeof startApi>>;
