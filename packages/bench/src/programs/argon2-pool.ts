/** The baseline of login and registration: as many threads as auth-api's password pool has, hashing without a pause. */
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { HashRate } from './argon2-thread.ts';
import { listen } from './control.ts';

const threads = Array.from(
  { length: availableParallelism() },
  () => new Worker(new URL('./argon2-thread.ts', import.meta.url)),
);

async function hashFor(thread: Worker, seconds: number): Promise<number> {
  thread.postMessage({ seconds });
  const [{ perSecond }] = (await once(thread, 'message')) as [HashRate];
  return perSecond;
}

await listen((app) => {
  app.get<{ Querystring: { seconds: string } }>('/hashes', async ({ query }): Promise<HashRate> => {
    const rates = await Promise.all(threads.map((thread) => hashFor(thread, Number(query.seconds))));
    return { perSecond: rates.reduce((sum, rate) => sum + rate, 0) };
  });
});
