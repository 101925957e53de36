/** Two instances of the app in processes of their own on the same stores, asked over HTTP. */

import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Agent, type ClientRequest, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { programOnPath } from '@latchkey/dev-stack/system-programs';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { startTestRedis } from '@latchkey/dev-stack/test-redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { hashSync } from '@node-rs/argon2';
import { inject } from 'vitest';
import type { TokenResponse } from '../accounts.ts';
import { databaseProbe } from '../mail-probe.ts';
import { newAddress, startAppProcess, testEnvironment } from '../test-app.ts';

/** Debian's faketime; where there is none, what needs it is skipped by name. */
export const faketime = programOnPath('faketime');

/** What makes a program see another time of day: what the command `faketime` would set. Timers run by the monotonic clock, which stays. */
function clockAhead(seconds: number): Record<string, string> {
  if (faketime === undefined) throw new Error('faketime is missing');
  const set = execFileSync(faketime, ['-m', '-f', `+${seconds}s`, 'env'], { encoding: 'utf8' });
  const library = /^LD_PRELOAD=(.+)$/m.exec(set)?.[1];
  if (library === undefined) throw new Error(`faketime does not say what it loads:\n${set}`);
  return { LD_PRELOAD: library, FAKETIME: `+${seconds}s`, DONT_FAKE_MONOTONIC: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1' };
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Record<string, unknown>;
}

interface Call {
  token?: string | undefined;
  payload?: object | undefined;
}

/** Asks the app at `base` over connections that stay open. */
function instanceAt(base: string) {
  const agent = new Agent({ keepAlive: true });

  function send(method: string, path: string, { token, payload }: Call = {}): ClientRequest {
    const content = payload && JSON.stringify(payload);
    const sent = request(`${base}${path}`, {
      method,
      agent,
      headers: {
        ...(content !== undefined && {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(content),
        }),
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      },
    });
    sent.end(content);
    return sent;
  }

  async function ask(method: string, path: string, call?: Call): Promise<Answer> {
    const [response]: IncomingMessage[] = await once(send(method, path, call), 'response');
    if (!response) throw new Error('no response');
    const content = await text(response);
    const isJson = response.headers['content-type']?.includes('json') ?? false;
    return { status: response.statusCode ?? 0, headers: response.headers, body: isJson ? JSON.parse(content) : {} };
  }

  return {
    base,
    ask,
    /** Sends a request whose answer nobody hears: the connection is cut `after` so many milliseconds. */
    async askAndLeave(method: string, path: string, call: Call, after: number): Promise<void> {
      const sent = send(method, path, call);
      sent.on('error', () => undefined);
      setTimeout(() => sent.destroy(), after);
      await new Promise((closed) => sent.once('close', closed));
    },
    login: (email: string, password: string, token_format: 'jwt' | 'opaque' = 'jwt') =>
      ask('POST', '/v1/tokens', { payload: { email, password, token_format } }),
    refresh: (refresh_token: string) => ask('POST', '/v1/tokens/refresh', { payload: { refresh_token } }),
    verify: async (token: string): Promise<number> => (await ask('GET', '/v1/verify', { token })).status,
    close: () => agent.destroy(),
  };
}

export type Instance = ReturnType<typeof instanceAt>;

/** As the app stores it: a weaker one would be replaced at the first login. */
export const hashOf = (password: string): string =>
  hashSync(password, { algorithm: 2, memoryCost: 19_456, timeCost: 2, parallelism: 1 });

/** @param ahead seconds the second instance's clock is ahead of the first's. */
export async function startInstances({ ahead = 0, env = {} }: { ahead?: number; env?: Record<string, string> } = {}) {
  const [server, testDatabase] = await Promise.all([startTestRedis(), createTestDatabase(inject('databaseUrl'))]);
  const stores = { databaseUrl: testDatabase.url, redisUrl: server.url };
  // A thousand lines a second would be another test.
  const environment = testEnvironment(stores, { RATE_LIMITS: 'off', LOG_LEVEL: 'error', ...env });
  const processes = await Promise.all([
    startAppProcess('auth-api', environment),
    startAppProcess('auth-api', { ...environment, ...(ahead > 0 && clockAhead(ahead)) }),
  ]);
  const [first, second] = [instanceAt(processes[0].url), instanceAt(processes[1].url)];
  const database = databaseProbe(stores.databaseUrl);
  const redis = connectRedis(stores.redisUrl, 'queueWorker', () => undefined);

  return {
    ...stores,
    first,
    second,
    both: [first, second] as const,
    environment,
    server,
    database,
    redis,
    /** What the instances logged: errors only. */
    errors: () => processes.flatMap(({ output }) => output),

    /** An active account. */
    async account(passwordHash: string): Promise<{ id: string; email: string }> {
      const [id, email] = [randomUUID(), newAddress('race')];
      await database.rows(
        `INSERT INTO users (id, email, email_key, status, password_hash, locale) VALUES ($1, $2, $2, 'active', $3, 'en')`,
        [id, email, passwordHash],
      );
      return { id, email };
    },

    async stop() {
      first.close();
      second.close();
      redis.disconnect();
      await database.close();
      await Promise.all(processes.map((process) => process.stop()));
      await server.stop();
      await testDatabase.drop();
    },
  };
}

export type Instances = Awaited<ReturnType<typeof startInstances>>;

/** The tokens of an answer. @throws when it is another one than 200. */
export function tokensOf({ status, body }: Answer): TokenResponse {
  if (status !== 200) throw new Error(`answered ${status} ${JSON.stringify(body)}`);
  return body as unknown as TokenResponse;
}
