import { type RunningRedis, startRedis } from '@latchkey/dev-stack/redis';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { createRevocationCopy } from '../src/revocation-copy.ts';

const LAG_MAX = 1000;
let server: RunningRedis;
let writer: Redis;
let stream: string;
let streams = 0;

beforeAll(async () => {
  server = await startRedis();
  writer = new Redis(server.url, { maxRetriesPerRequest: null });
  writer.on('error', () => {});
});
afterAll(async () => {
  writer.disconnect();
  await server.stop();
});
beforeEach(() => {
  streams += 1;
  stream = `revocations-${streams}`;
});

const started = Date.now();
const inTenMinutes = () => Math.ceil(started / 1000) + 600;
const revoke = (sessionId: string, until = inTenMinutes()) =>
  writer.xadd(stream, '*', 'sid', sessionId, 'until', until);

function copyOfTheLog() {
  const redis = new Redis(server.url, { maxRetriesPerRequest: null, retryStrategy: () => 50, connectTimeout: 500 });
  redis.on('error', () => {});
  const copy = createRevocationCopy({ redis, stream, lagMax: LAG_MAX, onError: () => {} });
  onTestFinished(() => copy.close());
  return { copy };
}

test('nothing is believed before the whole log is copied', async () => {
  const sessions = Array.from({ length: 12_000 }, (_, index) => `s${index}`);
  const pipeline = writer.pipeline();
  for (const session of sessions) pipeline.xadd(stream, '*', 'sid', session, 'until', inTenMinutes());
  await pipeline.exec();
  const { copy } = copyOfTheLog();
  expect(copy.fresh()).toBe(false);
  expect(copy.lag()).toBe(Number.POSITIVE_INFINITY);
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { interval: 1 });
  // Believed only now, and now it knows them all.
  expect(sessions.every((session) => copy.denies(session))).toBe(true);
  expect(copy.denies('another')).toBe(false);
});

test('what is revoked is known as it happens, and a quiet log stays believed', async () => {
  const { copy } = copyOfTheLog();
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true));
  await revoke('phone');
  await vi.waitFor(() => expect(copy.denies('phone')).toBe(true), { timeout: 500, interval: 1 });
  const quietSince = performance.now();
  await vi.waitFor(
    () => {
      expect(copy.fresh()).toBe(true);
      expect(performance.now() - quietSince).toBeGreaterThan(2 * LAG_MAX);
    },
    { timeout: 4 * LAG_MAX },
  );
});

test('a copy that hears nothing is believed no longer than the bound, and after healing has missed nothing', async () => {
  const { copy } = copyOfTheLog();
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true));
  server.freeze();
  try {
    await vi.waitFor(() => expect(copy.fresh()).toBe(false), { timeout: 2 * LAG_MAX });
  } finally {
    server.thaw();
  }
  await revoke('while-away');
  await vi.waitFor(() => expect(copy.denies('while-away')).toBe(true), { timeout: 5000 });
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: 5000 });
});

test('a connection that is cut is made again, from where the copy had got to', async () => {
  const { copy } = copyOfTheLog();
  await revoke('before');
  copy.start();
  await vi.waitFor(() => expect(copy.denies('before')).toBe(true));
  await writer.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  await revoke('after');
  await vi.waitFor(() => expect(copy.denies('after')).toBe(true), { timeout: 5000 });
  expect(copy.denies('before')).toBe(true);
});

test('what can matter no more is forgotten', async () => {
  const { copy } = copyOfTheLog();
  copy.start();
  await revoke('long-gone', Math.floor(Date.now() / 1000) - 3600);
  await revoke('alive');
  await vi.waitFor(() => expect(copy.denies('alive')).toBe(true));
  expect(copy.denies('long-gone')).toBe(false);
  expect(copy.size()).toBe(1);
});

test('a small bound is kept too: a healthy Redis is never stale', async () => {
  const redis = new Redis(server.url, { maxRetriesPerRequest: null });
  const copy = createRevocationCopy({ redis, stream, lagMax: 200, onError: () => {} });
  onTestFinished(() => copy.close());
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true));
  let stale = 0;
  const until = performance.now() + 1000;
  while (performance.now() < until) {
    if (!copy.fresh()) stale += 1;
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(stale).toBe(0);
});

test('a step of the host’s clock makes no revoked token good again', async () => {
  const { copy } = copyOfTheLog();
  copy.start();
  await revoke('phone');
  await vi.waitFor(() => expect(copy.denies('phone')).toBe(true));
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
  onTestFinished(() => void vi.useRealTimers());
  await revoke('laptop');
  await vi.waitFor(() => expect(copy.denies('laptop')).toBe(true));
  expect(copy.denies('phone')).toBe(true);
});

test('what this process has written itself is refused at once', () => {
  const { copy } = copyOfTheLog();
  copy.deny('own', inTenMinutes());
  expect(copy.denies('own')).toBe(true);
});
