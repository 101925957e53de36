/** What a session costs Redis: as many as asked for, each a copy of what the API itself wrote for a real login. */
import { randomUUID } from 'node:crypto';
import { startRedis } from '@latchkey/dev-stack/redis';
import { userTag } from '@latchkey/shared/redis-keys';
import { Redis } from 'ioredis';
import { addUsers, logIn, type TokenFormat } from '../accounts.ts';
import type { Row } from '../report.ts';
import type { Stand } from '../stand.ts';

/** What the devices of one user say of themselves. */
const DEVICES = [
  {
    name: 'Ada’s phone',
    userAgent:
      'Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1',
  },
  {
    name: 'Ada’s laptop',
    userAgent:
      'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.2592.87',
  },
];
/** Users copied by one call: a tenth of a second. */
const BATCH = 5000;
/**
 * KEYS: what one user has. ARGV[1]: the user's id as keys spell it; ARGV[2], ARGV[3]: numbers of the first and last copy, whose ids have
 * the same length; then the dump and the TTL (ms, 0: none) of each key.
 */
const COPY = `
for number = tonumber(ARGV[2]), tonumber(ARGV[3]) do
  local id = string.format('%022d', number)
  for at, key in ipairs(KEYS) do
    local from, to = string.find(key, ARGV[1], 1, true)
    redis.call('RESTORE', string.sub(key, 1, from - 1) .. id .. string.sub(key, to + 1), ARGV[3 + at * 2], ARGV[2 + at * 2])
  end
end`;

export async function benchMemory(stand: Stand): Promise<Row[]> {
  return [
    { name: 'memory_jwt', what: 'a JWT session, two devices a user', memory: await memoryOf(stand, 'jwt') },
    { name: 'memory_opaque', what: 'an opaque token, two devices a user', memory: await memoryOf(stand, 'opaque') },
  ];
}

async function memoryOf(stand: Stand, format: TokenFormat): Promise<{ of: string; bytesEach: number; count: number }> {
  const [email = ''] = await addUsers(stand, 1);
  for (const device of DEVICES) await logIn(stand, email, format, device);
  const { rows } = await stand.database.query<{ id: string }>('SELECT id FROM users WHERE email = $1', [email]);
  const userId = rows[0]?.id ?? randomUUID();
  const source = new Redis(stand.redisUrl);
  const tag = userTag(userId);
  // Whatever carries the user's hash tag.
  const keys = (await source.keys('*')).filter((key) => key.includes(`{${tag}}`));
  const dumps = await Promise.all(
    keys.map(async (key) => [(await source.dumpBuffer(key)) ?? '', Math.max(0, await source.pttl(key))]),
  );
  source.disconnect();

  const server = await startRedis({ onDeath: () => undefined });
  const target = new Redis(server.url);
  const before = await usedMemory(target);
  const users = Math.ceil(stand.sizes.sessions / DEVICES.length);
  for (let first = 1; first <= users; first += BATCH) {
    const last = Math.min(users, first + BATCH - 1);
    await target.eval(COPY, keys.length, ...keys, tag, first, last, ...dumps.flat());
  }
  const bytes = (await usedMemory(target)) - before;
  target.disconnect();
  await server.stop();
  const count = users * DEVICES.length;
  return { of: 'Redis', bytesEach: bytes / count, count };
}

async function usedMemory(redis: Redis): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1]);
}
