/** The revocations of the issuer's Redis, on a connection that is given. */
import { type RunningRedis, startRedis } from '@latchkey/dev-stack/redis';
import { Redis, type RedisOptions } from 'ioredis';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { type RevocationsInRedisOptions, revocationsInRedis } from '../src/redis.ts';

const LAG_MAX = 1000;
const SOON = { timeout: 10_000, interval: 1 };
let server: RunningRedis;
let writer: Redis;

beforeAll(async () => {
  server = await startRedis();
  writer = new Redis(server.url);
});
afterEach(() => writer.flushall());
afterAll(async () => {
  writer.disconnect();
  await server.stop();
});

const beginEpoch = () => writer.hset('latchkey:{revocations}:epoch', { id: 'epoch', born: 1_000_000 });
const token = (sessionId: string) => ({ sessionId, userId: 'ada', issuedAt: Date.now() * 1000 });

async function revoke(...sessionIds: string[]): Promise<void> {
  const until = Math.ceil(Date.now() / 1000) + 600;
  const pipeline = writer.pipeline();
  for (const sessionId of sessionIds) pipeline.xadd('latchkey:{revocations}', '*', 'sid', `${until} 0 ${sessionId}`);
  await pipeline.exec();
}

function follow(options: Partial<RevocationsInRedisOptions> = {}) {
  const errors: string[] = [];
  const onError = ({ message }: Error) => errors.push(message);
  const revocations = revocationsInRedis({ redis: server.url, lagMax: LAG_MAX, onError, ...options });
  onTestFinished(() => revocations.close());
  return { revocations, errors };
}

test.each<[string, RedisOptions]>([
  ['a prefix of its own', { keyPrefix: 'orders:' }],
  ['little time for a command', { commandTimeout: 20 }],
  ['little time for a command that blocks', { blockingTimeout: 1, blockingTimeoutGrace: 0 }],
  ['replies in another form', { protocol: 3, replyMapping: 'resp3' }],
  ['no queue and no retries', { enableOfflineQueue: false, maxRetriesPerRequest: 0, retryStrategy: () => null }],
])('of a connection with %s another is made that follows the log: all of it, and on', async (_what, options) => {
  await beginEpoch();
  const sessions = Array.from({ length: 12_000 }, (_, index) => `s${index}`);
  await revoke(...sessions);
  const redis = new Redis(server.url, options as object);
  onTestFinished(() => redis.disconnect());
  const { revocations, errors } = follow({ redis });
  await vi.waitFor(() => expect(revocations.fresh()).toBe(true), SOON);
  // Believed only now, and now it knows them all.
  expect(sessions.every((session) => revocations.denies(token(session)))).toBe(true);
  expect(revocations.denies(token('another'))).toBe(false);
  await revoke('another');
  await vi.waitFor(() => expect(revocations.denies(token('another'))).toBe(true), SOON);
  // Some silences later.
  await vi.waitFor(() => expect(revocations.lag()).toBeGreaterThan(200), SOON);
  await vi.waitFor(() => expect(revocations.lag()).toBeLessThan(100), SOON);
  expect([revocations.fresh(), errors]).toEqual([true, []]);
});

test('whoever follows the log is given what there is to ask, and nothing that would change it', () => {
  const { revocations } = follow();
  expect(Object.keys(revocations).sort()).toEqual([
    'changes',
    'close',
    'denies',
    'epoch',
    'failure',
    'fresh',
    'lag',
    'size',
  ]);
});

test('why nothing is known is there to be told, until it is', async () => {
  const { revocations } = follow();
  await writer.set('latchkey:{revocations}:epoch', 'in the way');
  await vi.waitFor(
    () => expect(revocations.failure?.()).toMatchObject({ message: expect.stringContaining('WRONGTYPE') }),
    SOON,
  );
  await writer.del('latchkey:{revocations}:epoch');
  await beginEpoch();
  await vi.waitFor(() => expect([revocations.fresh(), revocations.failure?.()]).toEqual([true, undefined]), SOON);
});

test('that there is no epoch, as under another prefix, is told once', async () => {
  await beginEpoch();
  const { revocations, errors } = follow({ prefix: 'another' });
  await vi.waitFor(() => expect(errors).toEqual([expect.stringContaining('another:{revocations}:epoch')]), SOON);
  // Asked ten times a second.
  await writer.call('CONFIG', 'RESETSTAT');
  await vi.waitFor(async () => expect(await writer.info('commandstats')).toMatch(/cmdstat_hmget:calls=[3-9]/), SOON);
  expect([revocations.fresh(), errors.length]).toEqual([false, 1]);
});
