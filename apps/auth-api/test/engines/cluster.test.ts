import { once } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { RunningRedis } from '@latchkey/dev-stack/redis';
import { type RunningRedisCluster, startRedisCluster } from '@latchkey/dev-stack/redis-cluster';
import { mastersOf } from '@latchkey/dev-stack/test-redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { type Cluster, Redis } from 'ioredis';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { logIn } from '../accounts.ts';
import {
  expectOnly,
  HEALS_WITHIN,
  newUser,
  opaque,
  refreshed,
  settles,
  stands,
  startOn,
  underLoad,
  verified,
  wholeFlow,
} from './flow.ts';

const keys = redisKeys();
let cluster: RunningRedisCluster;
let system: Awaited<ReturnType<typeof startOn>>;

beforeAll(async () => {
  cluster = await startRedisCluster();
  system = await startOn(cluster);
});
afterAll(() => system.stop());

async function onServer<T>({ url }: RunningRedis, ask: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url);
  try {
    return await ask(redis);
  } finally {
    redis.disconnect();
  }
}

/** A user whose keys are on the log's shard, or on another. */
async function userOn(shard: 'of the log' | 'of its own') {
  const { master } = await cluster.holders(keys.revocations);
  for (;;) {
    const user = await newUser(system.apis[0], system.probe.rows);
    const same = (await cluster.holders(keys.sessions(user.id))).master === master;
    if (same === (shard === 'of the log')) return user;
  }
}

/** Kills the master of a key, which starts again as a replica once another has taken over. */
async function failOver(key: string): Promise<void> {
  const { master } = await cluster.holders(key);
  await master.kill();
  await vi.waitFor(async () => expect((await cluster.holders(key)).master).not.toBe(master), HEALS_WITHIN);
  await master.start();
}

/** From now on the replica gets nothing of what its master is told. */
async function cutOffReplica(key: string): Promise<void> {
  const { master } = await cluster.holders(key);
  await onServer(master, async (redis) => {
    await redis.acl('SETUSER', 'default', '-psync', '-sync');
    await redis.call('CLIENT', 'KILL', 'TYPE', 'replica');
  });
}

/** Every shard has a replica in step again. */
async function inStep(): Promise<void> {
  await vi.waitFor(async () => {
    const states = await Promise.all(cluster.nodes.map((node) => onServer(node, (redis) => redis.info('replication'))));
    for (const state of states) expect(state).toMatch(/^connected_slaves:1|^master_link_status:up/m);
  }, HEALS_WITHIN);
}

test('whoever asks a node that is still being connected to waits for it, and is not refused', async () => {
  const redis = connectRedis(cluster.url, 'store', () => undefined);
  onTestFinished(() => redis.disconnect());
  await once(redis, 'ready');
  const asked: Promise<number>[] = [];
  for (let turn = 0; turn < 200; turn += 1) {
    for (const name of 'abcdefghijkl') asked.push(redis.exists(name));
    await nextTurn();
  }
  expect(new Set(await Promise.all(asked))).toEqual(new Set([0]));
  expect((await mastersOf(redis)).map(({ status }) => status)).toEqual(['ready', 'ready', 'ready']);
});

test('the whole way of an account works on six nodes, and no command crosses slots', async () => {
  await wholeFlow(system.apis[0], system.side);
  await system.probe.settled();
  const errors = await Promise.all(cluster.nodes.map((node) => onServer(node, (redis) => redis.info('errorstats'))));
  expect(errors.join('\n')).not.toContain('CROSSSLOT');
});

test.each(['of the log', 'of its own'] as const)(
  'the master %s shard killed under load: 503 while it lasts, no revoked token good, all healed without a restart',
  { timeout: 90_000 },
  async (shard) => {
    await inStep();
    const [one, other] = system.apis;
    const user = await userOn(shard);
    const key = shard === 'of the log' ? keys.revocations : keys.sessions(user.id);
    const [good, bad] = [await logIn(one, user.email), await logIn(one, user.email)];
    const [goodTool, badTool] = [await opaque(one, user.email), await opaque(one, user.email)];
    for (const { session } of [bad, badTool])
      expect((await one.delete(`/v1/sessions/${session.id}`, good.access_token)).statusCode).toBe(204);
    await inStep();

    const load = underLoad({
      good: () => verified(one, good.access_token),
      goodTool: () => verified(other, goodTool.access_token),
      bad: () => verified(other, bad.access_token),
      badTool: () => verified(one, badTool.access_token),
      badRefresh: async () => (await refreshed(other, bad)).statusCode,
      login: async () => (await one.login(user.email)).statusCode,
    });
    await failOver(key);
    for (const api of system.apis) {
      await settles(() => verified(api, good.access_token), 200);
      await settles(() => verified(api, goodTool.access_token), 200);
      await settles(async () => (await api.login(user.email)).statusCode, 200);
    }
    const seen = await load.stop();
    expectOnly(seen.good, 200);
    expectOnly(seen.goodTool, 200);
    expectOnly(seen.bad, 401);
    expectOnly(seen.badTool, 401);
    expectOnly(seen.badRefresh, 401);
    expectOnly(seen.login, 200);
    await wholeFlow(one, system.side);
  },
);

test('a shard that lost the end of sessions at its failover never lets them in, and is told again', {
  timeout: 90_000,
}, async () => {
  await inStep();
  const [one, other] = system.apis;
  const [user, cut] = [await userOn('of its own'), await userOn('of its own')];
  const [here, lost, lostTool] = [
    await logIn(one, user.email),
    await logIn(one, user.email),
    await opaque(one, user.email),
  ];
  const cutTool = await opaque(one, cut.email);
  const key = keys.sessions(user.id);
  await inStep();
  await cutOffReplica(key);
  for (const { session } of [lost, lostTool])
    expect((await one.delete(`/v1/sessions/${session.id}`, here.access_token)).statusCode).toBe(204);
  expect((await one.delete('/v1/sessions', cutTool.access_token)).statusCode).toBe(204);
  const load = underLoad({
    refresh: async () => (await refreshed(other, lost)).statusCode,
    tool: () => verified(other, lostTool.access_token),
    cutTool: () => verified(one, cutTool.access_token),
  });
  await failOver(key);
  for (const session of [lost, lostTool])
    await vi.waitFor(async () => expect(await stands(cluster.url, user.id, session)).toBe(false), HEALS_WITHIN);
  for (const api of system.apis) {
    await settles(() => verified(api, here.access_token), 200);
    await settles(() => verified(api, lostTool.access_token), 401);
    await settles(async () => (await api.login(user.email)).statusCode, 200);
  }
  const seen = await load.stop();
  for (const answers of Object.values(seen)) expectOnly(answers, 401);
});

test('a replica of the log that lags does not decide: a new epoch begins, and what was revoked stays so', {
  timeout: 90_000,
}, async () => {
  await inStep();
  const [one, other] = system.apis;
  const user = await userOn('of its own');
  const [good, bad] = [await logIn(one, user.email), await logIn(one, user.email)];
  await settles(() => verified(other, bad.access_token), 200);
  await inStep();
  await cutOffReplica(keys.revocations);
  expect((await one.delete(`/v1/sessions/${bad.session.id}`, good.access_token)).statusCode).toBe(204);
  await settles(() => verified(other, bad.access_token), 401);
  const load = underLoad({
    bad: () => verified(one, bad.access_token),
    badToo: () => verified(other, bad.access_token),
  });
  await failOver(keys.revocations);
  for (const api of system.apis) {
    await settles(() => verified(api, good.access_token), 401);
    await settles(async () => (await api.login(user.email)).statusCode, 200);
  }
  for (const answers of Object.values(await load.stop())) expectOnly(answers, 401);
});

test('whoever waits is served, though a node that knew of no slots was asked for them and all nodes seemed gone', async () => {
  const redis = connectRedis(cluster.url, 'queueWorker', () => undefined) as Cluster;
  onTestFinished(() => redis.disconnect());
  await once(redis, 'ready');
  await Promise.all(redis.nodes().map((node) => node.ping()));
  const pool = Reflect.get(redis, 'connectionPool') as {
    reset: (nodes: object[]) => void;
    findOrCreate: (node: object) => void;
  };
  pool.reset([]);
  const asked = redis.exists('anything');
  // A redirection that was on its way.
  pool.findOrCreate({ host: '127.0.0.1', port: cluster.nodes[0]?.port });
  expect(await asked).toBe(0);
});
