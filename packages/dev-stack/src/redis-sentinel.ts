import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { temporaryFolder } from './processes.ts';
import { type RunningRedis, startRedis } from './redis.ts';
import { until } from './until.ts';

const MASTER_NAME = 'latchkey';
const SENTINELS = 3;
/** Milliseconds a master may be silent until the sentinels vote on another. */
const DOWN_AFTER = 1500;
/** Milliseconds a failover may take until it is given up; after twice that another one of the same master may begin. */
const FAILOVER_TIMEOUT = 3000;

export type RunningSentinel = {
  /** `REDIS_URL`: the sentinels, by `redis+sentinel://`. */
  readonly url: string;
  readonly servers: readonly RunningRedis[];
  readonly sentinels: readonly RunningRedis[];
  /** The master, as the sentinels see it now. */
  master(): Promise<RunningRedis>;
  stop(): Promise<void>;
};

/**
 * A master with replicas, watched by three sentinels, on 127.0.0.1; resolves when the replicas are in step and the sentinels know of each
 * other. A master that falls silent is replaced within some three seconds.
 */
export async function startRedisSentinel({ replicas: count = 2 } = {}): Promise<RunningSentinel> {
  const first = await startRedis({ args: ['--repl-diskless-sync-delay', '0'] });
  const replicas = await Promise.all(
    Array.from({ length: count }, () => startRedis({ args: ['--replicaof', `127.0.0.1 ${first.port}`] })),
  );
  const servers = [first, ...replicas];
  const sentinels = await Promise.all(Array.from({ length: SENTINELS }, () => startSentinel(first.port)));
  const url = `redis+sentinel://${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}/${MASTER_NAME}`;

  const clients = sentinels.map((sentinel) => new Redis(sentinel.url, { enableReadyCheck: false }));
  for (const client of clients) client.on('error', () => undefined);
  const ask = (client: Redis | undefined, question: string): Promise<unknown> =>
    client?.call('SENTINEL', question, MASTER_NAME).catch(String) ?? Promise.resolve();
  await until('every sentinel sees a quorum and all replicas in step', async () => {
    const quorums = await Promise.all(clients.map((client) => ask(client, 'CKQUORUM')));
    const lists = await Promise.all(clients.map((client) => ask(client, 'REPLICAS')));
    const inStep = lists.every((list) => String(list).match(/master-link-status,ok/g)?.length === replicas.length);
    return inStep && quorums.every((answer) => String(answer).startsWith(`OK ${SENTINELS}`));
  });

  return {
    url,
    servers,
    sentinels,
    async master() {
      const port = Number(String(await ask(clients[0], 'GET-MASTER-ADDR-BY-NAME')).split(',')[1]);
      const found = servers.find((server) => server.port === port);
      if (!found) throw new Error(`the sentinels name port ${port}, which is none of ours`);
      return found;
    },
    async stop() {
      for (const client of clients) client.disconnect();
      await Promise.all([...sentinels, ...servers].map((server) => server.kill()));
    },
  };
}

function startSentinel(masterPort: number): Promise<RunningRedis> {
  const config = join(temporaryFolder('sentinel'), 'sentinel.conf');
  writeFileSync(
    config,
    [
      `sentinel monitor ${MASTER_NAME} 127.0.0.1 ${masterPort} 2`,
      `sentinel down-after-milliseconds ${MASTER_NAME} ${DOWN_AFTER}`,
      `sentinel failover-timeout ${MASTER_NAME} ${FAILOVER_TIMEOUT}`,
      '',
    ].join('\n'),
  );
  return startRedis({ config, args: ['--sentinel'] });
}
