/** Loads `lua/<name>-<number of KEYS>.lua` and makes it callable. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RedisConnection } from '@latchkey/shared/redis-connections';

/**
 * Defines the script on the connection; ioredis sends its SHA-1 (EVALSHA), and the text only to a server that does not know it.
 * @returns a call: KEYS and ARGV in, the script's reply out. Rejects like a command.
 */
export function defineScript<Reply>(
  redis: RedisConnection,
  file: `${string}.lua`,
): (keys: readonly string[], args?: readonly (string | number)[]) => Promise<Reply> {
  const name = `script ${file}`;
  const numberOfKeys = Number(file.match(/-(\d+)\.lua$/)?.[1]);
  // Beside this file as sources and beside the bundle once built.
  redis.defineCommand(name, { numberOfKeys, lua: readFileSync(join(import.meta.dirname, 'lua', file), 'utf8') });
  const command = Reflect.get(redis, name) as (...args: (string | number)[]) => Promise<Reply>;
  return (keys, args = []) => command.call(redis, ...keys, ...args);
}
