import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '@latchkey/dev-stack/processes';
import { type RunningRedis, startRedis } from '@latchkey/dev-stack/redis';
import { createTestDatabase, type TestDatabase } from '@latchkey/dev-stack/test-database';
import { tellAll } from '@latchkey/dev-stack/test-redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import type { LightMyRequestResponse } from 'fastify';
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test, vi } from 'vitest';
import { decoded, logIn, type TokenResponse } from '../accounts.ts';
import { addClient, clientToken } from '../clients.ts';
import { expectProblem } from '../expect-problem.ts';
import { type DatabaseProbe, databaseProbe } from '../mail-probe.ts';
import { newAddress, startTestApp, type TestApp } from '../test-app.ts';

const HEALS_WITHIN = { timeout: 20_000, interval: 50 };

let dump: string;
let server: RunningRedis;
let testDatabase: TestDatabase;
let database: DatabaseProbe;
let redis: ReturnType<typeof connectRedis>;
let api: TestApp;
let admin: string;

beforeAll(async () => {
  const dir = join(temporaryFolder('refused-writes'), 'data');
  dump = join(dir, 'dump.rdb');
  // It saves, as one that must not lose its sessions does: when it can't, it refuses writes.
  const args = ['--appendonly', 'no', '--save', '86400', '1'];
  [server, testDatabase] = await Promise.all([startRedis({ dir, args }), createTestDatabase(inject('databaseUrl'))]);
  const stores = { databaseUrl: testDatabase.url, redisUrl: server.url };
  database = databaseProbe(stores.databaseUrl);
  redis = connectRedis(stores.redisUrl, 'queueWorker', () => undefined);
  api = await startTestApp({ ...stores, env: { RATE_LIMITS: 'off', LOG_LEVEL: 'fatal' } });
  admin = await clientToken(api, await addClient(stores.databaseUrl, 'admin'));
});
afterAll(async () => {
  await api.close();
  redis.disconnect();
  await database.close();
  await server.stop();
  await testDatabase.drop();
});

async function bgsave(): Promise<string> {
  await redis.bgsave();
  return vi.waitFor(async () => {
    const info = await redis.info('persistence');
    expect(info).toContain('rdb_bgsave_in_progress:0');
    return /rdb_last_bgsave_status:(\w+)/.exec(info)?.[1] ?? '';
  }, HEALS_WITHIN);
}

/** Ways of Redis to refuse a write, and to accept them again. */
const refusals: Record<string, { begin(): Promise<void>; end(): Promise<void> }> = {
  'is full (OOM)': {
    async begin() {
      await tellAll(redis, (server) => server.config('SET', 'maxmemory', '1'));
    },
    async end() {
      await tellAll(redis, (server) => server.config('SET', 'maxmemory', '0'));
    },
  },
  'is a replica (READONLY)': {
    async begin() {
      await redis.replicaof('127.0.0.1', '1');
    },
    async end() {
      await redis.replicaof('NO', 'ONE');
    },
  },
  'can not save (MISCONF)': {
    async begin() {
      rmSync(dump, { force: true });
      // What it renames its file to is a folder.
      mkdirSync(join(dump, 'in-the-way'), { recursive: true });
      expect(await bgsave()).toBe('err');
    },
    async end() {
      rmSync(dump, { recursive: true });
      expect(await bgsave()).toBe('ok');
    },
  },
};

interface Devices {
  email: string;
  id: string;
  phone: TokenResponse;
  laptop: TokenResponse;
}

async function devices(): Promise<Devices> {
  const email = newAddress('refused');
  await api.register(email);
  // How it was activated is not what is looked at here.
  await database.rows(`UPDATE users SET status = 'active' WHERE email = $1`, [email]);
  const [phone, laptop] = [await logIn(api, email), await logIn(api, email)];
  return { email, phone, laptop, id: String(decoded(phone.access_token).claims.sub) };
}

interface Act {
  run(on: Devices): Promise<LightMyRequestResponse>;
  /** What is refused once it was done. */
  ends: readonly ('phone' | 'laptop')[];
}

/** What must be written or refused; each by the laptop. */
const acts: Record<string, Act> = {
  'logout of the current session': {
    run: ({ laptop }) => api.delete('/v1/sessions/current', laptop.access_token),
    ends: ['laptop'],
  },
  'logout of another session': {
    run: ({ phone, laptop }) => api.delete(`/v1/sessions/${phone.session.id}`, laptop.access_token),
    ends: ['phone'],
  },
  'logout of all others': {
    run: ({ laptop }) => api.delete('/v1/sessions?except=current', laptop.access_token),
    ends: ['phone'],
  },
  'logout everywhere': {
    run: ({ laptop }) => api.delete('/v1/sessions', laptop.access_token),
    ends: ['phone', 'laptop'],
  },
  'an operator’s cut-off': {
    run: ({ id }) =>
      api.call('POST', `/v1/admin/users/${id}/revocations`, undefined, { authorization: `Bearer ${admin}` }),
    ends: ['phone', 'laptop'],
  },
  refresh: { run: ({ laptop }) => api.post('/v1/tokens/refresh', { refresh_token: laptop.refresh_token }), ends: [] },
};

const verify = async ({ access_token }: TokenResponse) => (await api.get('/v1/verify', access_token)).statusCode;
const refresh = async ({ refresh_token }: TokenResponse) =>
  (await api.post('/v1/tokens/refresh', { refresh_token })).statusCode;

/** What it answers once it can know: a connection that was made anew has to be recognised first. */
const known = (ask: () => Promise<number>): Promise<number> =>
  vi.waitFor(async () => {
    const status = await ask();
    expect(status).not.toBe(503);
    return status;
  }, HEALS_WITHIN);

const statusesOf = async (tokens: TokenResponse): Promise<number[]> => [
  await known(() => verify(tokens)),
  await known(() => refresh(tokens)),
];

describe.each(Object.entries(refusals))('while Redis %s', (_name, { begin, end }) => {
  test.each(Object.entries(acts))('%s answers 503, and completes when it is repeated', async (_act, { run, ends }) => {
    const user = await devices();
    await begin();
    try {
      for (let times = 0; times < 3; times += 1) {
        const refused = await run(user);
        expectProblem(refused, { status: 503, code: 'dependency_unavailable' });
        expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
        // Who asked can ask again.
        expect([200, 503]).toContain(await verify(user.laptop));
      }
    } finally {
      await end();
    }
    await vi.waitFor(async () => expect((await run(user)).statusCode).toBeLessThan(300), HEALS_WITHIN);
    for (const device of ['phone', 'laptop'] as const) {
      const expected = ends.includes(device) ? 401 : 200;
      expect(await statusesOf(user[device]), device).toEqual([expected, expected]);
    }
  });

  test('a login answers 503, or has written its session, and works afterwards', async () => {
    const user = await devices();
    const opened: TokenResponse[] = [];
    await begin();
    try {
      for (let times = 0; times < 3; times += 1) {
        const login = await api.login(user.email);
        // A script that has begun to write may go on in a Redis that is full.
        if (login.statusCode === 200) opened.push(login.json());
        else expectProblem(login, { status: 503, code: 'dependency_unavailable' });
      }
    } finally {
      await end();
    }
    await vi.waitFor(async () => opened.push(await logIn(api, user.email)), HEALS_WITHIN);
    for (const tokens of [...opened, user.phone, user.laptop]) expect(await statusesOf(tokens)).toEqual([200, 200]);
    const { sessions } = (await api.get('/v1/sessions', user.phone.access_token)).json();
    expect(sessions).toHaveLength(opened.length + 2);
  });
});

test.each(['is full (OOM)', 'can not save (MISCONF)'])(
  'an instance that starts while Redis %s verifies, and issues nothing',
  async (how) => {
    const { phone } = await devices();
    const client = await addClient(testDatabase.url, 'introspect');
    await refusals[how]?.begin();
    try {
      const late = await startTestApp({
        databaseUrl: testDatabase.url,
        redisUrl: server.url,
        env: { LOG_LEVEL: 'fatal' },
      });
      onTestFinished(() => late.close());
      expect((await late.get('/v1/verify', phone.access_token)).statusCode).toBe(200);
      // Nobody could be told how long what it issues lives.
      await expect(clientToken(late, client)).rejects.toThrow('503');
    } finally {
      await refusals[how]?.end();
    }
  },
);
