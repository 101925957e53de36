/** A copy that follows the log on Redis Cluster. */
import { type RunningRedisCluster, startRedisCluster } from '@latchkey/dev-stack/redis-cluster';
import { Cluster, Redis } from 'ioredis';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { revocationsInRedis } from '../src/redis.ts';
import { createRevocationCopy } from '../src/revocation-copy.ts';

let server: RunningRedisCluster;
let nodes: { host: string; port: number }[];
let writer: Cluster;

beforeAll(async () => {
  server = await startRedisCluster();
  nodes = server.nodes.map(({ port }) => ({ host: '127.0.0.1', port }));
  writer = new Cluster(nodes);
  writer.on('error', () => undefined);
}, 60_000);
afterAll(async () => {
  writer.disconnect();
  await server.stop();
});

const inTenMinutes = Math.ceil(Date.now() / 1000) + 600;
const epoch = { id: 'epoch', born: 1_000_000 };

test('a connection that is being made anew as the copy wants another one is left to come, and the copy heals', async () => {
  const [stream, epochKey] = ['{lost}', '{lost}:epoch'];
  await writer.hset(epochKey, epoch);
  const redis = new Cluster(
    nodes.map(({ port }) => ({ host: 'cluster.test', port })),
    {
      dnsLookup: (_host, found) => setImmediate(found, null, '127.0.0.1'),
      redisOptions: { maxRetriesPerRequest: null },
    },
  );
  redis.on('error', () => undefined);
  let lost = 0;
  const copy = createRevocationCopy({
    connect: () => redis,
    stream,
    epochKey,
    lagMax: 1000,
    onError: () => undefined,
    // Meanwhile the connection is lost, and by the time this is answered the nodes are looked for again.
    async onEpochLost() {
      lost += 1;
      if (lost > 1) return true;
      await writer.hset(epochKey, epoch);
      redis.disconnect(true);
      await new Promise<void>((resolve) => redis.once('connecting', resolve));
      return false;
    },
  });
  onTestFinished(() => copy.close());
  copy.start();
  await vi.waitFor(() => expect(copy.fresh()).toBe(true), { timeout: 10_000, interval: 1 });
  await writer.del(epochKey);
  await vi.waitFor(() => expect(lost).toBe(1), 10_000);
  await writer.xadd(stream, '*', 'sid', `${inTenMinutes} 0 phone`);
  await vi.waitFor(() => expect([copy.fresh(), copy.size()]).toEqual([true, 1]), 10_000);
});

test.each(['is handed on', 'is killed'] as const)(
  'when the master that holds the log %s, the copy follows its replica, without a restart',
  async (how) => {
    const prefix = `log-${how.replaceAll(' ', '-')}`;
    const stream = `${prefix}:{revocations}`;
    await writer.hset(`${stream}:epoch`, epoch);
    await writer.xadd(stream, '*', 'sid', `${inTenMinutes} 0 phone`);
    const revocations = revocationsInRedis({ redis: writer, prefix, lagMax: 1000 });
    onTestFinished(() => revocations.close());
    await vi.waitFor(() => expect([revocations.fresh(), revocations.size()]).toEqual([true, 1]), 10_000);
    const { master, replica } = await vi.waitFor(async () => {
      const { master, replica } = await server.holders(stream);
      if (!replica) throw new Error('no replica is known yet');
      return { master, replica };
    }, 10_000);
    const [old, next] = [new Redis(master.url), new Redis(replica.url)];
    for (const client of [old, next]) {
      client.on('error', () => undefined);
      onTestFinished(() => client.disconnect());
    }
    // What the replica has not got yet would be missed, and rightly.
    await vi.waitFor(async () => expect(await next.get(`${stream}:epoch`).catch(String)).toContain('MOVED'), 10_000);
    expect(await old.wait(1, 10_000)).toBe(1);
    if (how === 'is handed on') await next.call('CLUSTER', 'FAILOVER');
    else await master.kill();
    await vi.waitFor(async () => expect((await next.role())[0]).toBe('master'), { timeout: 20_000, interval: 50 });
    await vi.waitFor(() => writer.xadd(stream, '*', 'sid', `${inTenMinutes} 0 tablet`), {
      timeout: 10_000,
      interval: 100,
    });
    await vi.waitFor(() => expect([revocations.fresh(), revocations.size()]).toEqual([true, 2]), 10_000);
  },
  60_000,
);

test('of a connection another is made that keeps who it is and nothing that would break it', async () => {
  // Of one that was killed before, this connection may still think that it is there.
  await vi.waitFor(async () => {
    for (const node of writer.nodes('master').filter(({ status }) => status === 'ready'))
      await node.call('ACL', 'SETUSER', 'reader', 'on', '>secret', '~*', '+@all');
  }, 10_000);
  await writer.hset('latchkey:{revocations}:epoch', epoch);
  await writer.xadd('latchkey:{revocations}', '*', 'sid', `${inTenMinutes} 0 phone`);
  const redis = new Cluster(nodes, {
    keyPrefix: 'orders:',
    scaleReads: 'slave',
    enableOfflineQueue: false,
    redisOptions: {
      username: 'reader',
      password: 'secret',
      commandTimeout: 20,
      keyPrefix: 'orders:',
      blockingTimeout: 1,
    },
  });
  redis.on('error', () => undefined);
  onTestFinished(() => redis.disconnect());
  const revocations = revocationsInRedis({ redis, lagMax: 1000 });
  onTestFinished(() => revocations.close());
  await vi.waitFor(() => expect([revocations.fresh(), revocations.size()]).toEqual([true, 1]), 10_000);
  await vi.waitFor(async () => {
    const ready = writer.nodes('master').filter(({ status }) => status === 'ready');
    const clients = await Promise.all(ready.map((node) => node.client('LIST')));
    expect(clients.join()).toMatch(/ cmd=xread user=reader /);
  }, 10_000);
});
