/**
 * Ten times the load that one instance sustains, of everything at once, from another process. OVERLOAD_SECONDS=60 for a whole minute; then its
 * bounds are those that are promised, else wider ones, as short measurements on a busy machine are no better.
 */
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { startTestRedis } from '@latchkey/dev-stack/test-redis';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { addUser, type TokenResponse } from '../accounts.ts';
import { addClient, basic } from '../clients.ts';
import { PASSWORD, startAppProcess, testEnvironment } from '../test-app.ts';
import type { LoadPlan, LoadReport } from './load.ts';

const LONG = process.env.OVERLOAD_SECONDS !== undefined;
const SECONDS = Number(process.env.OVERLOAD_SECONDS ?? 3);
/** Seconds that logins alone are measured; what is sustainable is measured for as long, or longer. */
const MEASURED = LONG ? 5 : 1;
const USERS = 20;

let databaseUrl: string;
let url: string;
let stop: () => Promise<void>;
beforeAll(async () => {
  const [database, redis] = await Promise.all([createTestDatabase(inject('databaseUrl')), startTestRedis()]);
  databaseUrl = database.url;
  const api = await startAppProcess(
    'auth-api',
    // One refresh token for the whole run: repeating it costs what using it does.
    testEnvironment(
      { databaseUrl, redisUrl: redis.url },
      { RATE_LIMITS: 'off', REFRESH_GRACE: '3600', MAX_SESSIONS_PER_USER: '1000' },
    ),
  );
  url = api.url;
  stop = async () => {
    await api.stop();
    await redis.stop();
    await database.drop();
  };
});
afterAll(() => stop());

const post = (path: string, body: string, type = 'application/json', headers = '') =>
  `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: ${type}\r\n${headers}content-length: ${body.length}\r\n\r\n${body}`;
const get = (path: string, token: string) =>
  `GET ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\n\r\n`;
const credentials = (email: string) => JSON.stringify({ email, password: PASSWORD });

async function run(plan: Omit<LoadPlan, 'port'>): Promise<LoadReport> {
  const program = spawn(process.execPath, [fileURLToPath(new URL('./load.ts', import.meta.url))], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  program.stdin.end(JSON.stringify({ ...plan, port: Number(new URL(url).port) }));
  return JSON.parse(await text(program.stdout)) as LoadReport;
}

/** Logs all of them in, again and again. @returns the tokens, and how many logins a second there were. */
async function logInAll(emails: string[]) {
  const tokens: TokenResponse[] = [];
  const began = performance.now();
  const caller = async (email: string) => {
    while (performance.now() - began < MEASURED * 1000) {
      const headers = { 'content-type': 'application/json' };
      const answer = await fetch(`${url}/v1/tokens`, { method: 'POST', headers, body: credentials(email) });
      expect(answer.status).toBe(200);
      tokens.push((await answer.json()) as TokenResponse);
    }
  };
  await Promise.all(emails.map(caller));
  return { tokens, perSecond: (1000 * tokens.length) / (performance.now() - began) };
}

/** For whoever looks at the numbers. */
const lines = (phase: LoadReport[string] | undefined) =>
  Object.entries(phase?.whole ?? {})
    .map(([name, { statuses, p50, p99 }]) => `${name} ${JSON.stringify(statuses)} p50 ${p50} ms, p99 ${p99} ms`)
    .concat(`${phase?.seconds.length} s`)
    .join('\n');

test('verifying stays as quick, what is refused is told when to come again, and soon after everybody is served', {
  timeout: (60 + 2 * SECONDS) * 1000,
}, async ({ annotate }) => {
  const emails = await Promise.all(Array.from({ length: USERS }, async () => (await addUser({ databaseUrl })).email));
  const client = await addClient(databaseUrl, 'introspect');
  const { tokens, perSecond } = await logInAll(emails);
  // Passwords are what gives out first (docs/capacity.md). Half of what their threads can do, and for each a good deal of everything else.
  const logins = 0.5 * perSecond;
  const first = tokens.slice(0, USERS);
  const form = 'application/x-www-form-urlencoded';
  const authorization = `authorization: ${basic(client)}\r\n`;
  const registration = JSON.stringify({ email: 'new-########@example.test', password: PASSWORD });
  const { normal, overload, after } = await run({
    callers: [
      {
        name: 'verify',
        perSecond: 8 * logins,
        connections: 200,
        requests: first.map(({ access_token }) => get('/v1/verify', access_token)),
      },
      {
        name: 'refresh',
        perSecond: 4 * logins,
        connections: 300,
        requests: first.map(({ refresh_token }) => post('/v1/tokens/refresh', JSON.stringify({ refresh_token }))),
      },
      {
        name: 'introspect',
        perSecond: logins,
        connections: 200,
        requests: first.map(({ access_token }) =>
          post('/oauth/introspect', `token=${access_token}`, form, authorization),
        ),
      },
      {
        name: 'me',
        perSecond: 3 * logins,
        connections: 300,
        requests: first.map(({ access_token }) => get('/v1/me', access_token)),
      },
      {
        name: 'login',
        perSecond: 0.9 * logins,
        connections: 300,
        requests: emails.map((email) => post('/v1/tokens', credentials(email))),
      },
      { name: 'register', perSecond: 0.1 * logins, connections: 100, requests: [post('/v1/users', registration)] },
    ],
    phases: [
      { name: 'warm', times: 1, seconds: LONG ? 5 : 1 },
      { name: 'normal', times: 1, seconds: LONG ? 20 : 2 },
      { name: 'overload', times: 10, seconds: SECONDS },
      { name: 'after', times: 1, seconds: 15, untilServed: true },
    ],
  });
  await annotate(
    [`${Math.round(perSecond)} logins a second can be done`, lines(normal), lines(overload), lines(after)].join('\n'),
  );
  const quick = normal?.whole.verify?.p99 ?? 0;
  expect(quick).toBeGreaterThan(0);
  const verify = overload?.whole.verify;
  if (LONG) expect(verify?.p99).toBeLessThan(3 * quick);
  else expect(verify?.p50).toBeLessThan(Math.max(3 * quick, 100));
  for (const [name, { asked, statuses, withoutRetryAfter }] of Object.entries(overload?.whole ?? {})) {
    const answered = Object.values(statuses).reduce((sum, count) => sum + count, 0);
    expect([name, answered, withoutRetryAfter]).toEqual([name, asked, 0]);
    for (const status of Object.keys(statuses)) expect(['200', '202', '503'], name).toContain(status);
  }
  expect(verify?.statuses).toEqual({ 200: verify?.asked });
  expect(overload?.whole.login?.statuses[503]).toBeGreaterThan(0);
  // The last in which all were served, and the one in which that was seen.
  expect(after?.seconds.length).toBeLessThanOrEqual(6);
});
