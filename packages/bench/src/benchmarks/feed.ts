/** What a revocation costs auth-api for each verifier that listens to `GET /v1/revocations`: what the capacity page's simulation rests on. */
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { Redis } from 'ioredis';
import { addClient, clientToken } from '../accounts.ts';
import type { Row } from '../report.ts';
import { compare, type Sample } from '../rounds.ts';
import type { Stand } from '../stand.ts';
import { cpuSecondsOf, helloPerCpuSecond } from './instances.ts';

const ROUNDS = 3;
const LISTENERS = 200;

/** Listeners told, signs of life included, for each second of CPU time. */
export async function benchFeed(stand: Stand): Promise<Row[]> {
  const token = await clientToken(stand, await addClient(stand, 'revocations:read'));
  const listeners = await Promise.all(Array.from({ length: LISTENERS }, () => listen(stand.api.url, token)));
  const redis = new Redis(stand.redisUrl);
  const until = Math.ceil(Date.now() / 1000) + 3600;
  let told = 0;
  const telling = async (): Promise<Sample> => {
    const [cpuBefore, toldBefore] = [await cpuSecondsOf(stand.api), told];
    const end = performance.now() + stand.seconds * 1000;
    do {
      told += 1;
      await redis.xadd(redisKeys().revocations, '*', 'sid', `${until} 0 ${String(told).padStart(21, '0')}A`);
      await Promise.all(listeners.map(({ heard }) => heard(told)));
    } while (performance.now() < end);
    return { perSecond: (LISTENERS * (told - toldBefore)) / ((await cpuSecondsOf(stand.api)) - cpuBefore) };
  };
  const comparison = await compare(stand.rounds(ROUNDS), helloPerCpuSecond(stand), telling);
  for (const { leave } of listeners) leave();
  redis.disconnect();
  return [
    {
      name: 'feed_cpu',
      what: 'listeners told of a revocation per second of CPU',
      against: 'Fastify hello',
      ...comparison,
    },
  ];
}

/** @returns once all there was has been said. */
async function listen(url: string, token: string) {
  const request = get(`${url}/v1/revocations`, { headers: { authorization: `Bearer ${token}` } });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const complete = Promise.withResolvers<void>();
  let events = 0;
  let waiting = { events: 0, resolve: (): void => undefined };
  const lines = createInterface({ input: response });
  // So ends what is left.
  lines.on('error', () => undefined);
  lines.on('line', (line) => {
    if (line === 'event: complete') {
      events = 0;
      complete.resolve();
    }
    if (line !== 'event: revoked') return;
    events += 1;
    if (events >= waiting.events) waiting.resolve();
  });
  await complete.promise;
  return {
    /** Resolves when there were so many since. */
    heard: (count: number): Promise<void> =>
      new Promise((resolve) => {
        waiting = { events: count, resolve };
        if (events >= count) resolve();
      }),
    leave: (): void => void request.destroy(),
  };
}
