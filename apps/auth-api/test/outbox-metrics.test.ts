import { Registry } from 'prom-client';
import { expect, test, vi } from 'vitest';
import { measureOutbox } from '../src/outbox-metrics.ts';

test('what a scrape shows of the outbox is what there was when it was asked for, by one question; and nothing while nobody knows', async () => {
  const found = [
    { mails: 7, unpublishedAge: 3 },
    { mails: 1, unpublishedAge: 0 },
  ];
  const backlog = vi.fn(async () => {
    await new Promise((resolve) => setImmediate(resolve));
    const one = found.shift();
    if (one === undefined) throw new Error('PostgreSQL is away');
    return one;
  });
  const registry = new Registry();
  measureOutbox(registry, backlog);
  const scrape = async () => (await registry.metrics()).split('\n').filter((line) => line.startsWith('latchkey'));
  const shown = (mails: number, age: number) => [
    `latchkey_mail_outbox_unpublished_age_seconds ${age}`,
    `latchkey_mail_outbox_mails ${mails}`,
  ];
  expect(await Promise.all([scrape(), scrape()])).toEqual([shown(7, 3), shown(7, 3)]);
  expect(backlog).toHaveBeenCalledOnce();
  expect(await scrape()).toEqual(shown(1, 0));
  expect(await scrape()).toEqual([]);
});
