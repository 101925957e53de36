/** The revocations as the issuer's Redis holds them: for verifiers inside the trusted network. */
import { type Cluster, Redis, type RedisOptions } from 'ioredis';
import { assertNumbers, LONGEST_SILENCE } from './numbers.ts';
import { createReport } from './report.ts';
import { createRevocationCopy } from './revocation-copy.ts';
import type { RevocationSource } from './revoked.ts';

/** Milliseconds, as REVOCATION_LAG_MAX_MS. */
const LAG_MAX = 2000;
/** Milliseconds a connection may take. */
const CONNECT_TIMEOUT = 750;

export interface RevocationsInRedisOptions {
  /** The issuer's Redis: a URL, or on Sentinel or Redis Cluster a connection. Of that a second one is made, because following the log blocks. */
  redis: string | Redis | Cluster;
  /** What the issuer's keys begin with (default `latchkey`). */
  prefix?: string;
  /** Milliseconds of silence after which nothing is believed (default 2000). */
  lagMax?: number;
  /** Hears of connections that were lost, which are made again; and, once, that there is no epoch (or the `prefix` is another one). */
  onError?: (error: Error) => void;
}

/** Starts to follow the log; returns at once. @throws RangeError for a `lagMax` that is no number. */
export function revocationsInRedis(options: RevocationsInRedisOptions): RevocationSource {
  const { redis, prefix = 'latchkey', lagMax = LAG_MAX, onError = () => undefined } = options;
  assertNumbers({ lagMax }, LONGEST_SILENCE);
  // Waits for ever; but an answer that does not come means that the connection is dead, whatever it looks like.
  const follower = {
    maxRetriesPerRequest: null,
    enableOfflineQueue: true,
    connectTimeout: CONNECT_TIMEOUT,
    socketTimeout: lagMax,
    retryStrategy: (attempt: number) => Math.min(50 * 2 ** Math.min(attempt, 5), 1000),
    // What would break it, had it the options of the connection that is given. A command that blocks and is given up (ioredis counts every XREAD
    // as one) resolves as if Redis had said that there is no more.
    blockingTimeout: undefined,
    commandTimeout: undefined,
    keyPrefix: '',
    replyMapping: 'legacy',
    role: 'master',
  } as const satisfies RedisOptions;
  const report = createReport(onError);
  function connect(): Redis | Cluster {
    const connection =
      typeof redis === 'string'
        ? new Redis(redis, follower)
        : redis.isCluster
          ? (redis as Cluster).duplicate([], {
              keyPrefix: '',
              scaleReads: 'master',
              enableOfflineQueue: true,
              redisOptions: follower,
            })
          : (redis as Redis).duplicate(follower);
    return connection.on('error', report);
  }
  const copy = createRevocationCopy({
    connect,
    stream: `${prefix}:{revocations}`,
    epochKey: `${prefix}:{revocations}:epoch`,
    lagMax,
    onError,
  });
  copy.start();
  const { fresh, lag, denies, changes, failure, epoch, size, close } = copy;
  return { fresh, lag, denies, changes, failure, epoch, size, close };
}
