import { startRedis } from '@latchkey/dev-stack/redis';
import { startRedisSentinel } from '@latchkey/dev-stack/redis-sentinel';
import { Redis } from 'ioredis';
import { expect, onTestFinished, test, vi } from 'vitest';
import { connectRedis, type RedisProfile } from '../src/redis-connections.ts';

const PROFILES = ['store', 'queueProducer', 'follower', 'queueWorker'] as const satisfies RedisProfile[];
const SOON = { timeout: 15_000, interval: 20 };

function connect(url: string, profile: RedisProfile) {
  const redis = connectRedis(url, profile, () => undefined);
  onTestFinished(() => redis.disconnect());
  return redis;
}

function ask(url: string): Redis {
  const redis = new Redis(url, { enableReadyCheck: false });
  onTestFinished(() => redis.disconnect());
  return redis;
}

/** The lines of CLIENT LIST that match. */
async function clientsOf(server: Redis, which: RegExp): Promise<string[]> {
  return String(await server.client('LIST'))
    .split('\n')
    .filter((line) => which.test(line));
}

test('a failover that Sentinel tells of while it is being asked for the master ends no connection for good', async () => {
  const { sentinels, url, ...running } = await startRedisSentinel({ replicas: 1 });
  onTestFinished(running.stop);
  const [deaf, mute, teller] = sentinels;
  const connections = PROFILES.map((profile) => connect(url, profile));
  const sentinel = ask(teller?.url ?? '');
  const events = ask(teller?.url ?? '');
  await vi.waitFor(async () => expect(await clientsOf(sentinel, / sub=1 /)).toHaveLength(PROFILES.length), SOON);
  const before = ask((await running.master()).url);
  await events.psubscribe('*');
  const told: string[] = [];
  const alsoTold: string[] = [];
  for (const later of [deaf, mute].map((asleep) => ask(asleep?.url ?? ''))) {
    await later.subscribe('+switch-master');
    later.on('message', (event) => alsoTold.push(event));
  }
  events.on('pmessage', (_pattern, event) => told.push(event));

  // Asked first, these two take their time; the third one tells meanwhile.
  for (const asleep of [deaf, mute]) asleep?.freeze();
  await sentinel.call('SENTINEL', 'FAILOVER', 'latchkey');
  await vi.waitFor(() => expect(told).toContain('+failover-state-wait-promotion'), SOON);
  for (const line of await clientsOf(before, / name=latchkey-/))
    await before.client('KILL', 'ID', /^id=(\d+)/.exec(line)?.[1] ?? '');
  await vi.waitFor(() => expect(told).toContain('+switch-master'), SOON);
  for (const asleep of [deaf, mute]) asleep?.thaw();

  for (const redis of connections) await vi.waitFor(async () => expect((await redis.role())[0]).toBe('master'), SOON);
  let lost = 0;
  for (const redis of connections) redis.on('close', () => (lost += 1));
  // Those that slept tell of it too, of the master that these connections lead to.
  await vi.waitFor(() => expect(alsoTold).toHaveLength(2), SOON);
  await Promise.all(connections.map((redis) => redis.ping()));
  expect(lost).toBe(0);
});

test('a server that hangs loses its connections, those at work and those it has just taken, and gets them back', async () => {
  const server = await startRedis();
  onTestFinished(server.kill);
  const atWork = PROFILES.map((profile) => connect(server.url, profile));
  await Promise.all(atWork.map((redis) => vi.waitFor(() => redis.ping(), SOON)));

  server.freeze();
  const connections = [...atWork, ...PROFILES.map((profile) => connect(server.url, profile))];
  const lost = connections.map((redis) => new Promise((resolve) => redis.once('close', resolve)));
  const answers = connections.map((redis) => redis.ping().catch(() => undefined));
  await Promise.all(lost);
  server.thaw();

  await Promise.all(answers);
  await Promise.all(connections.map((redis) => vi.waitFor(() => redis.ping(), SOON)));
});
