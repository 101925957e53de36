/** What a scrape shows is what there was when it was asked for. */
import { Registry } from 'prom-client';
import { expect, it, vi } from 'vitest';
import type { Readiness } from '../src/health.ts';
import { createMetrics } from '../src/metrics.ts';
import { measureSurroundings } from '../src/surroundings.ts';

const samples = (text: string) =>
  text.split('\n').filter((line) => /^latchkey_mail_(queue|redis|dependency)/.test(line));

it('the queue’s gauges are those of this scrape, of two at once too, and gone while nobody knows', async () => {
  let found = [
    { depth: { waiting: 2, failed: 1 }, oldest: 3_000 },
    { depth: { waiting: 0 }, oldest: 0 },
  ];
  const state = vi.fn(async () => {
    await new Promise((resolve) => setImmediate(resolve));
    const [first] = found;
    found = found.slice(1);
    if (first === undefined) throw new Error('Redis is away');
    return first;
  });
  const { registry } = createMetrics(state);
  const scrape = async () => samples(await registry.metrics());
  const all = [
    'latchkey_mail_queue_age_seconds 3',
    'latchkey_mail_queue_depth{state="waiting"} 2',
    'latchkey_mail_queue_depth{state="failed"} 1',
  ];
  expect(await Promise.all([scrape(), scrape()])).toEqual([all, all]);
  expect(state).toHaveBeenCalledOnce();
  // A state that nobody is in any more shows no longer.
  expect(await scrape()).toEqual(['latchkey_mail_queue_age_seconds 0', 'latchkey_mail_queue_depth{state="waiting"} 0']);
  expect(await scrape()).toEqual([]);
});

it('what the worker sees around it is that of this scrape', async () => {
  const found: Readiness[] = [
    { status: 'degraded', checks: { redis: 'up', smtp: 'down' }, warnings: ['Redis may evict'] },
    { status: 'ready', checks: { redis: 'up', smtp: 'up' }, warnings: [] },
  ];
  const registry = new Registry();
  const readiness = async () => {
    await new Promise((resolve) => setImmediate(resolve));
    return found.shift() as Readiness;
  };
  measureSurroundings(registry, readiness, async () => 0);
  for (const [evicts, smtp] of [
    [1, 0],
    [0, 1],
  ])
    expect(samples(await registry.metrics())).toEqual([
      `latchkey_mail_redis_may_evict ${evicts}`,
      'latchkey_mail_dependency_up{dependency="redis"} 1',
      `latchkey_mail_dependency_up{dependency="smtp"} ${smtp}`,
    ]);
});
