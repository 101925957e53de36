/** Whatever Redis went through, the worker goes on by itself within 10 s of its end, and does not spin meanwhile. */
import { createServer } from 'node:net';
import { type RunningRedis, startRedis } from '@latchkey/dev-stack/redis';
import { Redis } from 'ioredis';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createHarness } from './harness.ts';

/** Milliseconds a trouble lasts. */
const TROUBLE = 2_500;
/** Commands a second by one worker that can do nothing. An idle one asks a handful; a loop without a pause thousands. */
const MANY = 200;

interface Trouble {
  begin(server: RunningRedis, redis: Redis): Promise<unknown>;
  end(server: RunningRedis, redis: Redis): Promise<unknown>;
  /** Whether it answers at all meanwhile. */
  readonly answers: boolean;
}

const troubles: Record<string, Trouble> = {
  'a restart': {
    answers: false,
    begin: (server) => server.kill(),
    end: (server) => server.start(),
  },
  'READONLY: it is a replica now': {
    answers: true,
    // Of a master that never answers.
    begin: async (_server, redis) => redis.replicaof('127.0.0.1', await silentPort()),
    end: (_server, redis) => redis.replicaof('NO', 'ONE'),
  },
  'MISCONF: its disk takes no snapshot': {
    answers: true,
    async begin(_server, redis) {
      await redis.config('SET', 'save', '3600 1');
      // Nobody can write there, not even root.
      await redis.config('SET', 'dir', '/proc');
      await redis.bgsave();
      await vi.waitFor(async () => expect(await redis.info('persistence')).toContain('rdb_last_bgsave_status:err'), {
        timeout: 10_000,
      });
    },
    end: (_server, redis) => redis.config('SET', 'stop-writes-on-bgsave-error', 'no'),
  },
  'OOM: its memory is full': {
    answers: true,
    begin: (_server, redis) => redis.config('SET', 'maxmemory', '1'),
    end: (_server, redis) => redis.config('SET', 'maxmemory', '0'),
  },
  wiped: {
    answers: true,
    begin: (_server, redis) => redis.flushall(),
    end: async () => undefined,
  },
};

test.each(Object.entries(troubles))('%s', { timeout: 60_000 }, async (_what, { begin, end, answers }) => {
  const server = await startRedis({ args: ['--enable-protected-configs', 'yes', '--appendonly', 'yes'] });
  const harness = await createHarness({ redisUrl: server.url });
  const redis = new Redis(server.url).on('error', () => undefined);
  onTestFinished(async () => {
    redis.disconnect();
    await harness.close();
    // Asked to, one whose disk takes no snapshot does not end.
    await server.kill();
  });
  const worker = await harness.start();
  const before = await harness.add('activation');
  await harness.settled(before.id);

  await begin(server, redis);
  const commands = async () =>
    Number(/total_commands_processed:(\d+)/.exec(await redis.info('stats'))?.[1] ?? Number.NaN);
  const [count, at] = [answers ? await commands() : 0, performance.now()];
  const linesBefore = harness.logLines.length;
  await new Promise((resolve) => setTimeout(resolve, TROUBLE));
  const seconds = (performance.now() - at) / 1000;
  if (answers) expect(((await commands()) - count) / seconds).toBeLessThan(MANY);
  expect((harness.logLines.length - linesBefore) / seconds).toBeLessThan(20);

  await end(server, redis);
  const ended = performance.now();
  const { id, to } = await harness.add('activation');
  await harness.catcher.waitFor(to);
  expect(performance.now() - ended).toBeLessThan(10_000);
  await harness.settled(id);
  expect(harness.catcher.mails(to)).toHaveLength(1);
  // It asks over a connection of its own, which looks again once a second.
  await vi.waitFor(async () => expect((await worker.app.inject('/readyz')).statusCode).toBe(200), 5_000);
});

/** A port that takes connections and says nothing. */
async function silentPort(): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => undefined));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}
