/**
 * The ways Latchkey talks to Redis. They differ in one thing: what happens to a command while Redis is away. Each is the same on one
 * server, behind Sentinel and on Redis Cluster (ADR 20), and always asks a master.
 */
import {
  Cluster,
  type ClusterOptions,
  Redis,
  type RedisOptions,
  type SentinelConnectionOptions,
  SentinelConnector,
} from 'ioredis';
import { parseRedisUrl } from './redis-url.ts';

/** Commands are called alike on both. */
export type RedisConnection = Redis | Cluster;

/** Milliseconds an answer may take before the caller is told Redis is down: a request may ask twice, and is answered within 2 s. */
const COMMAND_TIMEOUT = 750;

/**
 * Milliseconds without a byte, while one is owed, after which a connection is made anew: a server that hangs keeps its connections and
 * takes new ones, and whoever waits for its first words would wait for ever. A follower asks at least four times a second; BullMQ's worker
 * lets itself be kept waiting for up to ten seconds.
 */
const SILENCE = { asked: 2 * COMMAND_TIMEOUT, follower: 3000, worker: 12_000 };

/** Reconnects for ever, at most a second apart, so that a service heals as soon as Redis is back. */
const retryStrategy = (attempt: number): number => Math.min(50 * 2 ** Math.min(attempt, 5), 1000);

/** After a failover the old master answers READONLY: drop the connection, so that the next one finds the new master. */
const reconnectOnError = (error: Error): boolean => error.message.startsWith('READONLY');

const failsFast = {
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  commandTimeout: COMMAND_TIMEOUT,
  socketTimeout: SILENCE.asked,
} as const;

const profiles = {
  /** Requests wait for it: a command fails at once when Redis is away and after {@link COMMAND_TIMEOUT} when it does not answer. */
  store: failsFast,
  /** The relay adds jobs with it: fails at once too, because the outbox row waits and is tried again. */
  queueProducer: failsFast,
  /** Follows a stream: waits for ever too, but an answer that does not come means that the connection is dead, whatever it looks like. */
  follower: {
    enableOfflineQueue: true,
    maxRetriesPerRequest: null,
    socketTimeout: SILENCE.follower,
  },
  /** The worker: waits for ever. BullMQ asks for `maxRetriesPerRequest: null`. */
  queueWorker: {
    enableOfflineQueue: true,
    maxRetriesPerRequest: null,
    socketTimeout: SILENCE.worker,
  },
} as const satisfies Record<string, RedisOptions>;

export type RedisProfile = keyof typeof profiles;

/** What differs on Redis Cluster, where a command is first the client's, then a node's. */
const onCluster = {
  /** A node that is lost is an error at once; the next command finds the node that has the slot now. */
  failsFast: { retryDelayOnFailover: 0, retryDelayOnClusterDown: 0 },
  /** Asks until a node has the slot. The pause keeps two nodes that disagree about it from being asked in a tight loop. */
  waits: { maxRedirections: Number.POSITIVE_INFINITY, retryDelayOnMoved: 20 },
} as const satisfies Record<string, ClusterOptions>;

const ignored = (): void => undefined;

/**
 * What came while a cluster's client knew no node waits for it to be ready; but it may be ready all the time, if a node that knows of no slots was
 * asked for them, and a redirection comes right after. Then nobody would ever send it. (ioredis 6.0.0: no drain, no `ready`.)
 */
function sendWaiting(redis: Cluster): void {
  const send: unknown = Reflect.get(redis, 'executeOfflineCommands');
  if (redis.status === 'ready' && typeof send === 'function') process.nextTick(() => send.call(redis));
}

/**
 * ioredis' way to the master that Sentinel names, and news of a failover: a master that hangs keeps its connections, so that Sentinel has
 * to say that it is one no more. Instead of ioredis' own detector, which outlives the connection it watches (its news, while the next one
 * asks for the master, ends that one for good), and cuts off the new master too: each sentinel has its own moment to tell.
 */
class WatchedMaster extends SentinelConnector {
  constructor(options: unknown) {
    super(options as SentinelConnectionOptions);
  }

  override async connect(...report: Parameters<SentinelConnector['connect']>) {
    const stream = await super.connect(...report);
    const { name, sentinels = [], sentinelUsername, sentinelPassword, sentinelTLS } = this.options;
    const watched = sentinels.map(({ host, port }) => {
      const sentinel = new Redis({
        ...(host !== undefined && { host }),
        ...(port !== undefined && { port }),
        ...(sentinelUsername !== undefined && { username: sentinelUsername }),
        ...(sentinelPassword !== undefined && { password: sentinelPassword }),
        ...(sentinelTLS && { tls: sentinelTLS }),
        connectTimeout: COMMAND_TIMEOUT,
        disconnectTimeout: COMMAND_TIMEOUT,
        enableReadyCheck: false,
        maxRetriesPerRequest: null,
        retryStrategy,
      });
      // One of several that is away is no trouble; that none is there is told when the master is asked for.
      sentinel.on('error', ignored);
      sentinel.on('message', (_channel, news: string) => {
        const [master, , , newHost, newPort] = news.split(' ');
        const isThere = newHost === stream.remoteAddress && Number(newPort) === stream.remotePort;
        if (master === name && !isThere) this.disconnect();
      });
      sentinel.subscribe('+switch-master').catch(ignored);
      return sentinel;
    });
    stream.once('close', () => {
      for (const sentinel of watched) sentinel.disconnect();
    });
    return stream;
  }
}

/** How long an answer may take, so many times as long. */
const timeLimits = (
  { commandTimeout, socketTimeout }: { readonly commandTimeout?: number; readonly socketTimeout: number },
  patience: number,
) => ({
  ...(commandTimeout !== undefined && { commandTimeout: commandTimeout * patience }),
  socketTimeout: socketTimeout * patience,
});

/**
 * Opens a connection; never throws for a Redis that is away, and heals by itself.
 * @param url `REDIS_URL`, in any of its forms (redis-url.ts)
 * @param onError hears of each connection error; without a listener ioredis prints to the console.
 * @param patience how many times longer an answer may take; more than 1 is for tests that do not ask how fast the machine is.
 * @throws {Error} for a URL of no known form.
 */
export function connectRedis(
  url: string,
  profile: RedisProfile,
  onError: (error: Error) => void,
  patience = 1,
): RedisConnection {
  const { cluster, sentinel, server } = parseRedisUrl(url);
  const { enableOfflineQueue, ...behaviour } = profiles[profile];
  const options = {
    ...server,
    ...behaviour,
    ...timeLimits(behaviour, patience),
    connectTimeout: COMMAND_TIMEOUT,
    // A server that hangs does not say goodbye either.
    disconnectTimeout: COMMAND_TIMEOUT,
    connectionName: `latchkey-${profile}`,
  };
  if (cluster) {
    const redis = new Cluster(cluster, {
      ...(enableOfflineQueue ? onCluster.waits : onCluster.failsFast),
      clusterRetryStrategy: retryStrategy,
      slotsRefreshTimeout: COMMAND_TIMEOUT,
      // Names stay names: certificates are issued for them.
      dnsLookup: (host, callback) => callback(null, host),
      redisOptions: options,
    });
    // A node is connected to with the first command it gets. ioredis asks this with each: without a cluster whoever asks must not wait, but
    // for one node it may, which is bounded by the command's own time limit; otherwise all that come while it connects would fail.
    if (!enableOfflineQueue)
      Object.defineProperty(redis.options, 'enableOfflineQueue', { get: () => redis.status === 'ready' });
    else redis.on('+node', () => sendWaiting(redis));
    redis.on('error', onError);
    redis.on('node error', onError);
    return redis;
  }
  const redis = new Redis({
    ...options,
    enableOfflineQueue,
    retryStrategy,
    reconnectOnError,
    ...(sentinel && {
      ...sentinel,
      sentinelCommandTimeout: COMMAND_TIMEOUT,
      sentinelRetryStrategy: retryStrategy,
      Connector: WatchedMaster,
    }),
  });
  redis.on('error', onError);
  return redis;
}

/**
 * Calls `moved` whenever behind this connection may be another server than before: after it was made anew, and on Cluster after any node
 * came, went or took over slots.
 */
export function onServerChange(redis: RedisConnection, moved: () => void): void {
  redis.on('ready', moved);
  if (redis instanceof Redis) return;
  redis.on('-node', moved);
  let before = '';
  redis.on('refresh', () => {
    const masters = redis
      .nodes('master')
      .map(({ options: { host, port } }) => `${host}:${port}`)
      .sort()
      .join();
    if (before !== '' && masters !== before) moved();
    before = masters;
  });
}
