/**
 * The Redis a suite stands on: one server, or with `LATCHKEY_TEST_REDIS` a six-node Redis Cluster or a master behind Sentinel. What a
 * test does to each server (list its keys, forbid it a command) goes through here, for on Cluster there are three.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { type Cluster, Redis } from 'ioredis';
import { inheritedEnvironment } from './environment.ts';
import { startRedis } from './redis.ts';
import { startRedisCluster } from './redis-cluster.ts';
import { startRedisSentinel } from './redis-sentinel.ts';

const ENGINES = {
  server: () => startRedis(),
  cluster: () => startRedisCluster(),
  sentinel: () => startRedisSentinel(),
};

export type TestRedis = { readonly url: string; stop(): Promise<void> };

/** @throws {Error} for an engine nobody knows. */
export function startTestRedis(): Promise<TestRedis> {
  const engine = inheritedEnvironment().LATCHKEY_TEST_REDIS ?? 'server';
  if (!(engine in ENGINES)) throw new Error(`LATCHKEY_TEST_REDIS is none of ${Object.keys(ENGINES).join(', ')}`);
  return ENGINES[engine as keyof typeof ENGINES]();
}

/** The servers that decide: three of a cluster, else the one. */
export async function mastersOf(redis: Redis | Cluster): Promise<Redis[]> {
  if (redis instanceof Redis) return [redis];
  // Until it knows the slots it takes every node for a master, and then lets go of those that are none.
  if (redis.status !== 'ready') await once(redis, 'ready');
  return redis.nodes('master');
}

/** Tells each server the same. */
export async function tellAll(redis: Redis | Cluster, tell: (server: Redis) => Promise<unknown>): Promise<void> {
  await Promise.all((await mastersOf(redis)).map(tell));
}

/** KEYS, of all servers. */
export async function keysOf(redis: Redis | Cluster, pattern: string): Promise<string[]> {
  return (await Promise.all((await mastersOf(redis)).map((server) => server.keys(pattern)))).flat();
}

/**
 * MONITOR of one server: each command it carries out, as its line (`1339518083.1 [0 127.0.0.1:60866] "get" "key"`). On a connection of its
 * own: ioredis 6 takes the first command for an answer to a question of its own if it comes together with the OK to MONITOR.
 *
 * @returns how to stop.
 */
async function monitor(redis: Redis, onCommand: (line: string) => void): Promise<() => void> {
  // A node of a cluster is connected to with its first command.
  await redis.ping();
  const { remoteAddress: host, remotePort: port } = redis.stream as { remoteAddress?: string; remotePort?: number };
  if (host === undefined || port === undefined) throw new Error('MONITOR: not connected');
  const socket = connect({ host, port });
  const lines = createInterface({ input: socket });
  socket.write('MONITOR\r\n');
  const [answer] = await once(lines, 'line');
  if (answer !== '+OK') throw new Error(`MONITOR: ${answer}`);
  lines.on('line', onCommand);
  return () => socket.destroy();
}

/** MONITOR, of all servers. */
export async function monitorAll(redis: Redis | Cluster, onCommand: (line: string) => void): Promise<() => void> {
  const stops = await Promise.all((await mastersOf(redis)).map((server) => monitor(server, onCommand)));
  return () => {
    for (const stop of stops) stop();
  };
}

/** DEL, whatever slots the keys are in. */
export async function forget(redis: Redis | Cluster, keys: readonly string[]): Promise<void> {
  await Promise.all(keys.map((key) => redis.del(key)));
}
