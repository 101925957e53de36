/**
 * The three ways Latchkey talks to Redis. They differ in one thing: what happens to a command while Redis is away.
 */
import { Redis, type RedisOptions } from 'ioredis';

/** Milliseconds an answer may take before the caller is told Redis is down: a request may ask twice, and is answered within 2 s. */
const COMMAND_TIMEOUT = 750;

/** Reconnects for ever, at most a second apart, so that a service heals as soon as Redis is back. */
const retryStrategy = (attempt: number): number => Math.min(50 * 2 ** Math.min(attempt, 5), 1000);

/** After a failover the old master answers READONLY: drop the connection, so that the next one finds the new master. */
const reconnectOnError = (error: Error): boolean => error.message.startsWith('READONLY');

const profiles = {
  /** Requests wait for it: a command fails at once when Redis is away and after {@link COMMAND_TIMEOUT} when it does not answer. */
  store: {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    commandTimeout: COMMAND_TIMEOUT,
    connectTimeout: COMMAND_TIMEOUT,
    enableAutoPipelining: true,
  },
  /** The relay adds jobs with it: fails at once too, because the outbox row waits and is tried again. */
  queueProducer: {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    commandTimeout: COMMAND_TIMEOUT,
    connectTimeout: COMMAND_TIMEOUT,
  },
  /** The worker (and every blocking read): waits for ever. BullMQ asks for `maxRetriesPerRequest: null`. */
  queueWorker: {
    enableOfflineQueue: true,
    maxRetriesPerRequest: null,
    connectTimeout: COMMAND_TIMEOUT,
  },
} as const satisfies Record<string, RedisOptions>;

export type RedisProfile = keyof typeof profiles;

/**
 * Opens a connection; never throws for a Redis that is away, and heals by itself.
 * @param url `redis://` or `rediss://`
 * @param onError hears of each connection error; without a listener ioredis prints to the console.
 */
export function connectRedis(url: string, profile: RedisProfile, onError: (error: Error) => void): Redis {
  const redis = new Redis(url, {
    ...profiles[profile],
    retryStrategy,
    reconnectOnError,
    connectionName: `latchkey-${profile}`,
  });
  redis.on('error', onError);
  return redis;
}
