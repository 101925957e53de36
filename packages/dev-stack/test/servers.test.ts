import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import pg from 'pg';
import { expect, inject, onTestFinished, test, vi } from 'vitest';
import { freePort, onFreePort, PortTaken } from '../src/ports.ts';
import { startPostgres } from '../src/postgres.ts';
import { startRedis } from '../src/redis.ts';
import { createTestDatabase } from '../src/test-database.ts';
import { folder } from './stack-under-test.ts';

const TIMEOUT = 60_000;

async function query(url: string, statement: string): Promise<readonly unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(statement)).rows;
  } finally {
    await client.end();
  }
}

async function redisClient(url: string): Promise<Redis> {
  const client = new Redis(url, { lazyConnect: true, retryStrategy: null });
  client.on('error', () => undefined);
  onTestFinished(() => client.disconnect());
  await client.connect();
  return client;
}

test('PostgreSQL comes back after a crash, on its port, with what was committed', { timeout: TIMEOUT }, async () => {
  const server = await startPostgres({ durable: false });
  onTestFinished(() => server.stop());
  await query(server.url, 'CREATE TABLE kept AS SELECT 42 AS answer');
  await server.kill();
  await expect(query(server.url, 'SELECT 1')).rejects.toThrow();
  await server.start();
  expect(await query(server.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
});

test('PostgreSQL starts over the pid file of a run that was killed', { timeout: TIMEOUT }, async () => {
  const dataDir = join(folder(), 'data');
  const first = await startPostgres({ dataDir, durable: false });
  await query(first.url, 'CREATE TABLE kept ()');
  await first.stop();
  // Its pid now belongs to another process of the same user: to another PostgreSQL.
  const other = await startPostgres({ durable: false });
  onTestFinished(() => other.stop());
  const [pid] = readFileSync(join(other.dataDir, 'postmaster.pid'), 'utf8').split('\n');
  writeFileSync(join(dataDir, 'postmaster.pid'), `${pid}\n${dataDir}\n`);
  const second = await startPostgres({ dataDir, durable: false });
  onTestFinished(() => second.stop());
  expect(await query(second.url, 'SELECT * FROM kept')).toEqual([]);
});

test('PostgreSQL asks for its password, and compares text alike on every machine', { timeout: TIMEOUT }, async () => {
  const server = await startPostgres({ durable: false });
  onTestFinished(() => server.stop());
  const wrong = new URL(server.url);
  wrong.password = 'wrong';
  await expect(query(wrong.href, 'SELECT 1')).rejects.toThrow('password authentication failed');
  expect(await query(server.url, "SELECT lower('ÄÖ') AS low, 'Z' < 'a' AS by_code_point")).toEqual([
    { low: 'äö', by_code_point: true },
  ]);
});

test('a server that was given a taken port says so', { timeout: TIMEOUT }, async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  await expect(startRedis({ port: redis.port })).rejects.toThrow(`Port ${redis.port} (Redis) is taken by`);
  await expect(startPostgres({ port: redis.port })).rejects.toThrow(`Port ${redis.port} (PostgreSQL) is taken by`);
});

test('a free port is given to one asker alone: nobody may listen on it yet', async () => {
  const random = vi.spyOn(Math, 'random');
  onTestFinished(() => random.mockRestore());
  for (const drawn of [0.25, 0.25, 0.5]) random.mockReturnValueOnce(drawn);
  const one = await freePort();
  expect(await freePort()).not.toBe(one);
});

test('test processes at once are given ports of shares of their own', async () => {
  const random = vi.spyOn(Math, 'random').mockReturnValueOnce(0.999).mockReturnValueOnce(0.001);
  onTestFinished(() => {
    random.mockRestore();
    vi.unstubAllEnvs();
  });
  vi.stubEnv('VITEST_POOL_ID', '1');
  const highest = await freePort();
  vi.stubEnv('VITEST_POOL_ID', '2');
  expect(await freePort()).toBeGreaterThan(highest);
});

test('a free port that is taken meanwhile is no failure', async () => {
  const tried: number[] = [];
  await onFreePort(undefined, (port) => {
    tried.push(port);
    return tried.length < 3 ? Promise.reject(new PortTaken('taken')) : Promise.resolve();
  });
  expect(tried).toHaveLength(3);
  const asked = onFreePort(4000, (port) => {
    tried.push(port);
    return Promise.reject(new PortTaken('taken'));
  });
  await expect(asked).rejects.toThrow(PortTaken);
  expect(tried.slice(3)).toEqual([4000]);
});

test('Redis keeps its data over a restart where it has a folder, and never evicts', { timeout: TIMEOUT }, async () => {
  const redis = await startRedis({ dir: join(folder(), 'redis') });
  onTestFinished(() => redis.stop());
  const before = await redisClient(redis.url);
  expect(await before.config('GET', 'maxmemory-policy')).toEqual(['maxmemory-policy', 'noeviction']);
  await before.set('kept', '42');
  await redis.stop();
  await redis.start();
  expect(await (await redisClient(redis.url)).get('kept')).toBe('42');
});

test('Redis without a folder forgets everything when it is killed', { timeout: TIMEOUT }, async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  await (await redisClient(redis.url)).set('gone', '42');
  await redis.kill();
  await redis.start();
  expect(await (await redisClient(redis.url)).get('gone')).toBeNull();
});

test('a frozen Redis answers nothing until it thaws, and stops all the same', { timeout: TIMEOUT }, async () => {
  const redis = await startRedis();
  const client = await redisClient(redis.url);
  redis.freeze();
  const answer = client.ping();
  expect(await Promise.race([answer, delay(200, 'nothing')])).toBe('nothing');
  redis.thaw();
  expect(await answer).toBe('PONG');
  redis.freeze();
  await redis.stop();
});

test('each test file gets a migrated database of its own', { timeout: TIMEOUT }, async () => {
  const [one, other] = await Promise.all([
    createTestDatabase(inject('databaseUrl')),
    createTestDatabase(inject('databaseUrl')),
  ]);
  onTestFinished(() => other.drop());
  const insert = `INSERT INTO clients (id, secret_hash, scopes) VALUES ('one', '', '{}')`;
  await query(one.url, insert);
  expect(await query(other.url, 'SELECT * FROM clients')).toEqual([]);
  await one.drop();
  await expect(query(one.url, 'SELECT 1')).rejects.toThrow('does not exist');
});

test('the dev client exists after every start, unrevoked, with the secret that was printed', async () => {
  const { upsertDevClient } = await import('../src/dev-client.ts');
  const database = await createTestDatabase(inject('databaseUrl'));
  onTestFinished(() => database.drop());
  await upsertDevClient(database.url, 'dev', 'old');
  await query(database.url, 'UPDATE clients SET revoked_at = now()');
  await upsertDevClient(database.url, 'dev', 'new');
  const columns = `id, scopes, revoked_at, secret_hash = sha256('new') AS matches`;
  expect(await query(database.url, `SELECT ${columns} FROM clients`)).toEqual([
    { id: 'dev', scopes: ['admin', 'introspect', 'revocations:read'], revoked_at: null, matches: true },
  ]);
});
