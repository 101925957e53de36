import { Cluster, Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { batched, MAX_IN_FLIGHT, MIN_CONCURRENT_BATCH } from '../src/store/batching.ts';

/** Questions are numbers, and answered tenfold when told to. */
function asked({ isCluster = false, most = 3 } = {}) {
  const calls: { questions: readonly number[]; settle: PromiseWithResolvers<readonly (number | Error)[]> }[] = [];
  const redis = isCluster
    ? new Cluster(['redis://127.0.0.1'], { lazyConnect: true })
    : new Redis({ lazyConnect: true });
  const ask = batched<number, number>(redis, most, (questions) => {
    const settle = Promise.withResolvers<readonly (number | Error)[]>();
    calls.push({ questions, settle });
    return settle.promise;
  });
  return { redis, ask, calls, questions: () => calls.map(({ questions }) => questions) };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const tenfold = (questions: readonly number[]) => questions.map((question) => 10 * question);

test('all of one turn are asked in one call, and those that come meanwhile in the next, no more at once than may be', async () => {
  const { ask, calls, questions } = asked();
  const first = [ask(1), ask(2)];
  await turn();
  expect(questions()).toEqual([[1, 2]]);
  const later = [3, 4, 5, 6].map(ask);
  await turn();
  expect(questions()).toEqual([[1, 2]]);
  calls[0]?.settle.resolve(tenfold([1, 2]));
  expect(await Promise.all(first)).toEqual([10, 20]);
  expect(questions()).toEqual([
    [1, 2],
    [3, 4, 5],
  ]);
  calls[1]?.settle.resolve(tenfold([3, 4, 5]));
  await turn();
  calls[2]?.settle.resolve(tenfold([6]));
  expect(await Promise.all(later)).toEqual([30, 40, 50, 60]);
  const last = ask(7);
  await turn();
  expect(questions()).toHaveLength(4);
  calls[3]?.settle.resolve([70]);
  expect(await last).toBe(70);
});

test('enough of them do not wait for the answer before, but no more calls are made at once than may be', async () => {
  const { ask, calls, questions } = asked({ most: MIN_CONCURRENT_BATCH });
  const all = [ask(0)];
  await turn();
  const come = (many: number) => {
    for (let n = 0; n < many; n += 1) all.push(ask(all.length));
    return turn();
  };
  await come(MIN_CONCURRENT_BATCH - 1);
  expect(calls).toHaveLength(1);
  await come(1);
  expect(questions()[1]).toHaveLength(MIN_CONCURRENT_BATCH);
  await come(MAX_IN_FLIGHT * MIN_CONCURRENT_BATCH);
  expect(calls).toHaveLength(MAX_IN_FLIGHT);
  for (let call = 0; call < calls.length; call += 1) {
    calls[call]?.settle.resolve(tenfold(calls[call]?.questions ?? []));
    await turn();
    expect(calls.length - call - 1).toBeLessThanOrEqual(MAX_IN_FLIGHT);
  }
  expect(await Promise.all(all)).toEqual(tenfold(all.map((_, n) => n)));
});

test('an error among the answers is that of its question alone', async () => {
  const { ask, calls } = asked();
  const all = Promise.allSettled([ask(1), ask(2), ask(3)]);
  await turn();
  calls[0]?.settle.resolve([10, new Error('damaged'), 30]);
  expect((await all).map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
});

test('a call that fails fails those asked in it; those that wait are asked', async () => {
  const { ask, calls } = asked();
  const first = Promise.allSettled([ask(1), ask(2)]);
  await turn();
  const next = ask(3);
  calls[0]?.settle.reject(new Error('Redis is away'));
  expect((await first).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  calls[1]?.settle.resolve([30]);
  expect(await next).toBe(30);
});

test('a question that still waits when another connection is made is not asked behind it, where another Redis may be', async () => {
  const { redis, ask, calls, questions } = asked();
  const first = Promise.allSettled([ask(1)]);
  await turn();
  const waiting = Promise.allSettled([ask(2), ask(3)]);
  redis.emit('ready');
  expect((await waiting).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  calls[0]?.settle.reject(new Error('Command timed out'));
  expect((await first).map(({ status }) => status)).toEqual(['rejected']);
  expect(questions()).toEqual([[1]]);
  const later = ask(4);
  await turn();
  calls[1]?.settle.resolve([40]);
  expect(await later).toBe(40);
});

test('on Redis Cluster each is asked alone and at once, as users have slots of their own', () => {
  const { ask, questions } = asked({ isCluster: true });
  void ask(1);
  void ask(2);
  expect(questions()).toEqual([[1], [2]]);
});
