/** What a soak looks at. */
import { keyConventions, redisKeys } from '@latchkey/shared/redis-keys';
import type { Redis } from 'ioredis';
import type { Program, Stand } from '../stand.ts';

/** How it is shown, and growth that is nothing: what an app allocates or opens by itself now and then. */
type Series = { readonly unit: 'MB' | ''; readonly atLeast: number };
const MB = 1e6;
const MEMORY: Series = { unit: 'MB', atLeast: 1.5 };
/** A pool of ten connections may open its last ones late; what is lost with an act is lost hundreds of times. */
const COUNT: Series = { unit: '', atLeast: 10 };

/** Of each app, by the names of its metrics. */
const OF_AN_APP = {
  heap: { metric: 'nodejs_heap_size_used_bytes', ...MEMORY },
  external: { metric: 'nodejs_external_memory_bytes', ...MEMORY },
  // The system gives and takes pages in its own time.
  rss: { metric: 'process_resident_memory_bytes', unit: 'MB', atLeast: 8 },
  fds: { metric: 'process_open_fds', ...COUNT },
  handles: { metric: 'nodejs_active_resources_total', ...COUNT },
} as const;

const keys = redisKeys();
const LEDGERS = keys.mailLedger('*');

/** Kinds of keys by what they begin with, the longest first. */
const KINDS = Object.entries(keyConventions)
  .map(([kind, { pattern }]) => ({ kind, start: pattern.replace(/[<*].*$/, '') }))
  .toSorted((a, b) => b.start.length - a.start.length);

export type Sample = Readonly<Record<string, number>>;

export const SERIES: Readonly<Record<string, Series>> = {
  ...Object.fromEntries(
    ['auth-api', 'mailer-worker'].flatMap((app) =>
      Object.entries(OF_AN_APP).map(([name, { unit, atLeast }]) => [`${app} ${name}`, { unit, atLeast }]),
    ),
  ),
  'PostgreSQL connections': COUNT,
  'Redis connections': COUNT,
  'Redis memory': MEMORY,
  'Redis keys': { unit: '', atLeast: 50 },
};

async function ofApp(name: string, { url }: Program): Promise<Sample> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const value = (metric: string) => Number(new RegExp(`^${metric} (.+)$`, 'm').exec(text)?.[1]);
  return Object.fromEntries(
    Object.entries(OF_AN_APP).map(([what, { metric, unit }]) => [
      `${name} ${what}`,
      value(metric) / (unit === 'MB' ? MB : 1),
    ]),
  );
}

/** Every key by its kind. What the send ledger remembers for two weeks is aged on the way, so that it lasts so many seconds. */
async function countKeys(redis: Redis, ledgersLast: number): Promise<Map<string, number>> {
  const kinds = new Map<string, number>();
  for await (const found of redis.scanStream({ count: 1000 })) {
    const aged = redis.pipeline();
    for (const key of found as string[]) {
      const kind = KINDS.find(({ start }) => key.startsWith(start))?.kind ?? key;
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      if (key.startsWith(LEDGERS.slice(0, -1))) aged.expire(key, ledgersLast, 'LT');
    }
    await aged.exec();
  }
  return kinds;
}

const numberIn = (info: string, field: string) => Number(new RegExp(`^${field}:(\\d+)`, 'm').exec(info)?.[1]);

/** @param ledgersLast seconds. */
export async function takeSample(stand: Stand, redis: Redis, ledgersLast: number) {
  const [api, worker] = [await ofApp('auth-api', stand.api), await ofApp('mailer-worker', await stand.worker())];
  const kinds = await countKeys(redis, ledgersLast);
  const info = await redis.info();
  const { rows } = await stand.database.query<{ count: number }>(
    "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'",
  );
  const sample: Sample = {
    ...api,
    ...worker,
    'PostgreSQL connections': rows[0]?.count ?? Number.NaN,
    'Redis connections': numberIn(info, 'connected_clients'),
    'Redis memory': numberIn(info, 'used_memory') / MB,
    'Redis keys': [...kinds.values()].reduce((sum, count) => sum + count, 0),
  };
  return { sample, kinds };
}

/** BullMQ keeps the last 10 000 events of a queue: as full as it gets, so that what is measured is not how it fills. */
export async function fillEvents(redis: Redis): Promise<void> {
  const filling = redis.pipeline();
  for (let n = 0; n < 10_000; n += 1)
    filling.xadd(`${keys.mailQueuePrefix}:mail:events`, '*', 'event', 'waiting', 'jobId', crypto.randomUUID());
  await filling.exec();
}
