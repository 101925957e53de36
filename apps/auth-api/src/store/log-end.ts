import type { RedisConnection } from '@latchkey/shared/redis-connections';
import type { RedisKeys } from '@latchkey/shared/redis-keys';

/** The id of the revocation log's last entry, of an empty one `0-0`. @throws what Redis throws. */
export async function readLogEnd(redis: RedisConnection, keys: RedisKeys): Promise<string> {
  const [last] = await redis.xrevrange(keys.revocations, '+', '-', 'COUNT', 1);
  return last?.[0] ?? '0-0';
}
