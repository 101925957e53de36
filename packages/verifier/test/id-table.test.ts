import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createIdTable } from '../src/id-table.ts';

const newId = () => randomBytes(16).toString('base64url');
/** Much alike, as no real ones are. */
const alike = (number: number) => `${String(number).padStart(21, '0')}A`;

test('holds what was added and nothing else, through every growth', () => {
  const table = createIdTable();
  const ids = [...Array.from({ length: 20_000 }, newId), ...Array.from({ length: 20_000 }, (_, n) => alike(n))];
  for (const id of ids) expect(table.add(id, 100)).toBe(true);
  expect(table.size()).toBe(ids.length);
  expect(ids.every((id) => table.has(id))).toBe(true);
  expect(Array.from({ length: 20_000 }, newId).some((id) => table.has(id))).toBe(false);
  expect(new Map(table.entries())).toEqual(new Map(ids.map((id) => [id, 100])));
});

test('does what a Map does that keeps the latest second, whatever is added and forgotten in whatever order', () => {
  const ids = Array.from({ length: 300 }, (_, n) => alike(n));
  const step = fc.oneof(
    { weight: 20, arbitrary: fc.record({ add: fc.nat(ids.length - 1), until: fc.integer({ min: 2, max: 50 }) }) },
    { weight: 1, arbitrary: fc.record({ now: fc.integer({ min: 2, max: 50 }) }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 3000, size: 'max' }), (steps) => {
      const table = createIdTable();
      const map = new Map<string, number>();
      const add = (id: string, until: number) => {
        table.add(id, until);
        map.set(id, Math.max(until, map.get(id) ?? 0));
      };
      const sweep = (now: number) => {
        table.sweep(now, Number.POSITIVE_INFINITY);
        for (const [id, until] of map) if (until < now) map.delete(id);
      };
      for (const step of steps) 'now' in step ? sweep(step.now) : add(ids[step.add] ?? '', step.until);
      expect(new Map(table.entries())).toEqual(map);
      expect(table.size()).toBe(map.size);
      for (const id of ids) expect(table.has(id)).toBe(map.has(id));
    }),
    { numRuns: 50 },
  );
});

test('going through it misses nothing that stays, though it grows and forgets meanwhile', () => {
  const table = createIdTable();
  const staying = Array.from({ length: 2000 }, newId);
  for (const id of staying) table.add(id, 1000);
  const seen = new Set<string>();
  for (const [id] of table.entries()) {
    seen.add(id);
    for (let n = 0; n < 5; n += 1) table.add(newId(), 10);
    table.sweep(20, 50);
  }
  expect(staying.every((id) => seen.has(id))).toBe(true);
});

test('what ends and is swept as it comes takes no more room, and an id forgotten can come again', () => {
  const table = createIdTable();
  for (let second = 2; second < 2000; second += 1) {
    for (let n = 0; n < 50; n += 1) table.add(newId(), second);
    table.sweep(second - 1, 1000 + 8 * 50);
    expect(table.size()).toBeLessThan(2500);
  }
  const [again] = [newId()];
  table.add(again, 5);
  table.sweep(10_000, Number.POSITIVE_INFINITY);
  expect(table.has(again)).toBe(false);
  table.add(again, 20_000);
  expect(table.has(again)).toBe(true);
});

test('what is no id of 128 bits in its one spelling is not taken', () => {
  const table = createIdTable();
  for (const text of [
    '',
    'short',
    `${'A'.repeat(21)}B`,
    'A'.repeat(23),
    `${'A'.repeat(10)}=${'A'.repeat(11)}`,
    'ümlaut'.padEnd(22, 'A'),
  ])
    expect(table.add(text, 5), text).toBe(false);
  expect(table.size()).toBe(0);
  expect(table.has(`${'A'.repeat(21)}B`)).toBe(false);
});

test('an id is held whatever its second is: none, none that is a number, one long past or beyond what can be written', () => {
  for (const until of [Number.NaN, 0, 0.5, 1, -5, Number.POSITIVE_INFINITY, 9e9]) {
    const table = createIdTable();
    const id = newId();
    table.add(id, until);
    expect(table.has(id), String(until)).toBe(true);
    expect(table.size()).toBe(1);
    expect([...table.entries()].map(([held]) => held)).toEqual([id]);
  }
});
