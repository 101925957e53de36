/**
 * The Redis a suite stands on: one server, or with `LATCHKEY_TEST_REDIS` a six-node Redis Cluster or a master behind Sentinel. What a
 * test does to each server (list its keys, forbid it a command) goes through here, for on Cluster there are three.
 */
import { Cluster, type Redis } from 'ioredis';
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
  const engine = process.env.LATCHKEY_TEST_REDIS ?? 'server';
  if (!(engine in ENGINES)) throw new Error(`LATCHKEY_TEST_REDIS is none of ${Object.keys(ENGINES).join(', ')}`);
  return ENGINES[engine as keyof typeof ENGINES]();
}

/** The servers that decide: three of a cluster, else the one. */
export const mastersOf = (redis: Redis | Cluster): Redis[] =>
  redis instanceof Cluster ? redis.nodes('master') : [redis];

/** Tells each server the same. */
export async function tellAll(redis: Redis | Cluster, tell: (server: Redis) => Promise<unknown>): Promise<void> {
  await Promise.all(mastersOf(redis).map(tell));
}

/** KEYS, of all servers. */
export async function keysOf(redis: Redis | Cluster, pattern: string): Promise<string[]> {
  return (await Promise.all(mastersOf(redis).map((server) => server.keys(pattern)))).flat();
}

/** DEL, whatever slots the keys are in. */
export async function forget(redis: Redis | Cluster, keys: readonly string[]): Promise<void> {
  await Promise.all(keys.map((key) => redis.del(key)));
}
