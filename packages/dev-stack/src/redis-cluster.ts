import { Redis } from 'ioredis';
import { freePort } from './ports.ts';
import { type RunningRedis, startRedis } from './redis.ts';
import { StackFailure } from './stack-failure.ts';
import { until } from './until.ts';

const MASTERS = 3;
const SLOTS = 16_384;
/** Milliseconds a master may be silent until its replica asks to take over. */
const NODE_TIMEOUT = 1500;
const ATTEMPTS = 5;

export type RunningRedisCluster = {
  /** `REDIS_URL`: all nodes, separated by commas. */
  readonly url: string;
  readonly nodes: readonly RunningRedis[];
  /** The node that decides about a key now, as a majority of masters sees it, and one that copies it. */
  holders(key: string): Promise<{ master: RunningRedis; replica: RunningRedis | undefined }>;
  stop(): Promise<void>;
};

/**
 * Three masters with a replica each, on 127.0.0.1; resolves when all slots are served and every replica is in step. A master that falls
 * silent is replaced within some three seconds.
 *
 * @param args More of redis-server's options, for each node.
 */
export async function startRedisCluster(args: readonly string[] = []): Promise<RunningRedisCluster> {
  const nodes = await Promise.all(Array.from({ length: 2 * MASTERS }, () => startNode(args)));
  const clients = nodes.map(({ url }) => new Redis(url, { maxRetriesPerRequest: null }));
  for (const client of clients) client.on('error', () => undefined);
  try {
    await form(clients, nodes);
  } finally {
    for (const client of clients) client.disconnect();
  }

  /** @returns what a node that answers and has a quorum says; the first that does. */
  async function slots(): Promise<[from: number, to: number, ...holders: [host: string, port: number][]][]> {
    for (const { url } of nodes) {
      const client = new Redis(url, { retryStrategy: null, commandTimeout: 500, maxRetriesPerRequest: 0 });
      client.on('error', () => undefined);
      try {
        const info = String(await client.cluster('INFO'));
        if (/cluster_state:ok/.test(info)) return (await client.cluster('SLOTS')) as never;
      } catch {
        // The next one may know.
      } finally {
        client.disconnect();
      }
    }
    throw new Error('no node of the cluster has a quorum');
  }

  return {
    url: nodes.map(({ url }) => url).join(','),
    nodes,
    async holders(key) {
      const slot = await keySlot(key, nodes);
      const range = (await slots()).find(([from, to]) => from <= slot && slot <= to);
      const [, , ...holders] = range ?? [0, 0];
      const [master, replica] = holders.map(([, port]) => nodes.find((node) => node.port === port));
      if (!master) throw new Error(`nobody holds slot ${slot}`);
      return { master, replica };
    },
    async stop() {
      await Promise.all(nodes.map((node) => node.kill()));
    },
  };
}

async function startNode(args: readonly string[]): Promise<RunningRedis> {
  const own = ['--cluster-enabled', 'yes', '--cluster-node-timeout', String(NODE_TIMEOUT)];
  // Its users are independent: those of the others go on. A replica takes over however long it was frozen by a test.
  own.push('--cluster-require-full-coverage', 'no', '--cluster-replica-validity-factor', '0');
  own.push('--repl-diskless-sync-delay', '0', ...args);
  for (let attempt = 1; ; attempt += 1) {
    const busPort = await freePort();
    try {
      return await startRedis({ args: ['--cluster-port', String(busPort), ...own] });
    } catch (error) {
      // Somebody else has taken the second port meanwhile.
      if (!(error instanceof StackFailure) || attempt === ATTEMPTS) throw error;
    }
  }
}

async function keySlot(key: string, nodes: readonly RunningRedis[]): Promise<number> {
  const asked = nodes.map(async ({ url }) => {
    const client = new Redis(url, { retryStrategy: null, commandTimeout: 500, maxRetriesPerRequest: 0 });
    client.on('error', () => undefined);
    try {
      return Number(await client.cluster('KEYSLOT', key));
    } finally {
      client.disconnect();
    }
  });
  return Promise.any(asked);
}

/** As `redis-cli --cluster create` does it, which needs the program and asks questions. */
async function form(clients: readonly Redis[], nodes: readonly RunningRedis[]): Promise<void> {
  const ids = await Promise.all(clients.map(async (client) => String(await client.cluster('MYID'))));
  await Promise.all(
    clients.map(async (client, index) => {
      await client.call('CLUSTER', 'SET-CONFIG-EPOCH', index + 1);
      if (index >= MASTERS) return;
      const from = Math.ceil((index * SLOTS) / MASTERS);
      const to = Math.ceil(((index + 1) * SLOTS) / MASTERS) - 1;
      await client.call('CLUSTER', 'ADDSLOTSRANGE', from, to);
    }),
  );
  const [first] = clients;
  for (const [index, { port }] of nodes.entries()) {
    if (index === 0) continue;
    const busPort = await clients[index]?.config('GET', 'cluster-port');
    await first?.call('CLUSTER', 'MEET', '127.0.0.1', port, String((busPort as string[] | undefined)?.[1]));
  }
  await until('every node knows every other', async () => {
    const known = await Promise.all(clients.map(async (client) => String(await client.cluster('NODES'))));
    return known.every((list) => ids.every((id) => list.includes(id)) && !list.includes('handshake'));
  });
  await Promise.all(
    clients.map((client, index) =>
      index < MASTERS ? undefined : client.cluster('REPLICATE', ids[index - MASTERS] ?? ''),
    ),
  );
  await until('the cluster serves all slots and every replica is in step', async () => {
    const states = await Promise.all(
      clients.map(async (client, index) => {
        const [info, view, replication] = await Promise.all([
          client.cluster('INFO'),
          client.cluster('NODES'),
          client.info('replication'),
        ]);
        const inStep = index < MASTERS ? /^connected_slaves:1/m : /^master_link_status:up/m;
        const replicas = String(view).match(/\bslave /g)?.length;
        return /cluster_state:ok/.test(String(info)) && replicas === nodes.length - MASTERS && inStep.test(replication);
      }),
    );
    return states.every(Boolean);
  });
}
