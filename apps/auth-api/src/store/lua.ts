/** Loads `store/lua/<name>-<number of KEYS>.lua`, or `<name>.lua` for one of any number, and makes it callable. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RedisConnection } from '@latchkey/shared/redis-connections';

// Beside this file as sources and beside the bundle once built.
const read = (file: string) => readFileSync(join(import.meta.dirname, 'lua', file), 'utf8');

/**
 * Defines the script on the connection, behind `prelude.lua`: ioredis sends its SHA-1 (EVALSHA) and the text only to a server that does
 * not know it.
 * @returns a call: KEYS and ARGV in, the script's reply out. Rejects like a command.
 */
export function defineScript<Reply>(
  redis: RedisConnection,
  file: `${string}.lua`,
): (keys: readonly string[], args: readonly (string | number | Buffer)[]) => Promise<Reply> {
  const name = `script ${file}`;
  const numberOfKeys = file.match(/-(\d+)\.lua$/)?.[1];
  const lua = read('prelude.lua') + read(file);
  redis.defineCommand(name, numberOfKeys === undefined ? { lua } : { lua, numberOfKeys: Number(numberOfKeys) });
  const command = Reflect.get(redis, name) as (...args: (string | number | Buffer)[]) => Promise<Reply>;
  return numberOfKeys === undefined
    ? (keys, args) => command.call(redis, keys.length, ...keys, ...args)
    : (keys, args) => command.call(redis, ...keys, ...args);
}
