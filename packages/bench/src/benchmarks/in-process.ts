/** Verification in the process of a service, against a library and the bare signature check; and with a full log. */
import { startRedis } from '@latchkey/dev-stack/redis';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { Redis } from 'ioredis';
import type { Start } from '../programs/in-process.ts';
import type { Row } from '../report.ts';
import { compare, type Sample } from '../rounds.ts';
import { ask, type Program, type Stand } from '../stand.ts';

const ROUNDS = 3;

export async function benchInProcess(stand: Stand): Promise<Row[]> {
  const program = await stand.inProcess(stand.redisUrl);
  const rate = rateOf(stand);
  const rows = [
    { name: 'seen', what: 'in process, token seen before', way: 'seen', than: 'fastJwt', against: 'fast-jwt’s cache' },
    {
      name: 'seen_mget',
      what: 'in process, token seen before',
      way: 'seen',
      than: 'fastJwtMget',
      against: 'the same and a Redis MGET',
    },
    {
      name: 'unseen',
      what: 'in process, token never seen',
      way: 'unseen',
      than: 'nodeCrypto',
      against: 'node:crypto verify',
    },
    {
      name: 'unseen_der',
      what: 'in process, token never seen',
      way: 'unseen',
      than: 'nodeCryptoDer',
      against: 'the same, of DER',
    },
  ];
  const measured: Row[] = [];
  for (const { way, than, ...row } of rows)
    measured.push({ ...row, ...(await compare(stand.rounds(ROUNDS), rate(program, than), rate(program, way))) });
  await program.stop();
  return measured;
}

const rateOf = (stand: Stand) => (program: Program, way: string) => (): Promise<Sample> =>
  ask(`${program.url}/rate?of=${way}&seconds=${stand.seconds}`);

/** Lines written by one call: some 20 ms. */
const BATCH = 5000;
/**
 * KEYS[1]: the log. ARGV: numbers of the first and the last revocation, until, user. By turns whole sessions, sessions from an instant on, whole
 * sessions, and users. Ids have the form of real ones, and entries that of real ones as well (packages/verifier/src/log-entry.ts).
 */
const FILL = `
local long_ago = '1000000000000000'
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  if number % 4 == 0 then
    redis.call('XADD', KEYS[1], '*', 'sub', string.format('%s %s %08x-0000-4000-8000-000000000000', ARGV[3], long_ago, number))
  else
    redis.call('XADD', KEYS[1], '*', 'sid', string.format('%s %s %021dA %s', ARGV[3], number % 4 == 2 and long_ago or '0', number, ARGV[4]))
  end
end`;

/** Milliseconds between two revocations while verifying is measured: with each, every token has to be looked up once more. */
const ANOTHER_EVERY = 10;

/** Measures while something is revoked all the time. */
async function whileRevoking(url: string, fill: (redis: Redis) => Promise<unknown>, measure: () => Promise<Sample>) {
  const redis = new Redis(url);
  const timer = setInterval(() => void fill(redis), ANOTHER_EVERY);
  try {
    return await measure();
  } finally {
    clearInterval(timer);
    await redis.quit();
  }
}

/** A verifier that starts when so much was revoked within the life of a token: how soon it knows all, what that takes, what it slows. */
export async function benchWindow(stand: Stand): Promise<Row[]> {
  const { window: lines } = stand.sizes;
  const server = await startRedis({ onDeath: () => undefined });
  const keys = redisKeys();
  const redis = new Redis(server.url);
  await redis.hset(keys.epoch, { id: 'bench', born: 0 });
  const until = Math.ceil(Date.now() / 1000) + 3600;
  const fill = (to: Redis, first: number, last: number) =>
    to.eval(FILL, 1, keys.revocations, first, last, until, crypto.randomUUID());
  for (let first = 1; first <= lines; first += BATCH) await fill(redis, first, Math.min(lines, first + BATCH - 1));
  redis.disconnect();
  let last = lines;
  const another = (to: Redis) => {
    last += 1;
    return fill(to, last, last);
  };

  const [full, empty] = [await stand.inProcess(server.url), await stand.inProcess(stand.redisUrl)];
  const { milliseconds, kept, grown } = await ask<Start>(`${full.url}/start`);
  const rate = rateOf(stand);
  const compared = (way: string) =>
    compare(
      stand.rounds(ROUNDS),
      () => whileRevoking(stand.redisUrl, another, rate(empty, way)),
      () => whileRevoking(server.url, another, rate(full, way)),
    );
  const [seen, lookedUp] = [await compared('seen'), await compared('seenLookedUp')];
  await Promise.all([full.stop(), empty.stop()]);
  await server.stop();
  const latency = { p50: milliseconds, p99: milliseconds, max: milliseconds, samples: 1 };
  const memory = (bytes: number) => ({ of: 'the verifier', bytesEach: bytes / lines, count: lines });
  return [
    { name: 'window_ready', what: `a new verifier knows ${lines} revocations`, latency },
    { name: 'window_memory', what: 'a revocation, kept', memory: memory(kept) },
    { name: 'window_grown', what: 'a revocation, with what reading it left to the process', memory: memory(grown) },
    {
      name: 'window_verify',
      what: `in process, with ${lines} revocations`,
      against: 'with next to none',
      ...seen,
    },
    {
      name: 'window_looked_up',
      what: 'the same, each time looked up anew',
      against: 'with next to none',
      ...lookedUp,
    },
  ];
}
