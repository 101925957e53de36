import { setTimeout } from 'node:timers/promises';
import fastify from 'fastify';
import { expect, onTestFinished, test } from 'vitest';
import { load } from '../src/http-load.ts';
import { compare, median, percentile } from '../src/rounds.ts';

test('the ratio is the median of ratios taken side by side, each side going first by turns', async () => {
  const order: string[] = [];
  const side = (name: string, rates: number[]) => async () => {
    order.push(name);
    return { perSecond: rates.shift() ?? Number.NaN };
  };
  // The first of each is the unmeasured one. The machine is ten times slower in the second round, for both.
  const baseline = side('baseline', [1, 100, 10, 100]);
  const measured = side('measured', [999, 50, 6, 90]);
  const result = await compare(3, baseline, measured);
  expect(result.ratios).toEqual([0.5, 0.6, 0.9]);
  expect(result.ratio).toBe(0.6);
  expect(result.measured.perSecond).toBe(50);
  expect(order.slice(2)).toEqual(['baseline', 'measured', 'measured', 'baseline', 'baseline', 'measured']);
});

test('the median of an even number is the mean of the middle two; a percentile is a value that was measured', () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([3, 1, 2])).toBe(2);
  expect(percentile([1, 2, 3, 4], 99)).toBe(4);
  expect(percentile([1, 2, 3, 4], 50)).toBe(2);
});

test('load counts what is answered, and each connection sends what its caller says', async () => {
  const app = fastify();
  const bodies = new Set<string>();
  app.post<{ Body: { n: number; connection: number } }>('/', async ({ body }) => {
    bodies.add(`${body.connection}/${body.n}`);
    return { next: body.n + 1 };
  });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => app.close());
  const sample = await load({
    url,
    connections: 2,
    seconds: 0.2,
    caller(connection) {
      let n = 0;
      return {
        request: { method: 'POST', headers: { 'content-type': 'application/json' } },
        body: () => JSON.stringify({ connection, n }),
        answered(body) {
          ({ next: n } = JSON.parse(body) as { next: number });
        },
      };
    },
  });
  expect(sample.perSecond).toBeGreaterThan(0);
  expect(sample.perSecond * 0.2).toBeLessThanOrEqual(bodies.size);
  expect(bodies).toContain('0/1');
  expect(bodies).toContain('1/1');
});

test('a server that refuses is no measurement', async () => {
  const app = fastify();
  app.get('/', (_request, reply) => reply.code(503).send());
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => app.close());
  const refused = load({ url, connections: 2, seconds: 0.1, caller: () => ({ request: { method: 'GET' } }) });
  await expect(refused).rejects.toThrow(/status 503/);
});

test('a measurement too short for a slow server goes on until there is something to measure', async () => {
  const app = fastify();
  let answered = 0;
  // The first answers come only after the time that was asked for.
  app.get('/', async () => {
    await setTimeout(answered < 2 ? 100 : 0);
    answered += 1;
    return {};
  });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => app.close());
  const caller = () => ({ request: { method: 'GET' } }) as const;
  const { perSecond } = await load({ url, connections: 2, seconds: 0.01, caller });
  expect(perSecond).toBeGreaterThan(0);
  expect(answered).toBeGreaterThanOrEqual(2);
});
