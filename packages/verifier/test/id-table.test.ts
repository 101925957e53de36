import { randomBytes, randomUUID } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BASE64URL, UUID } from '../src/id-spelling.ts';
import { createIdTable } from '../src/id-table.ts';

const newId = () => randomBytes(16).toString('base64url');
/** Much alike, as no real ones are. */
const alike = (number: number) => `${String(number).padStart(21, '0')}A`;
const userAlike = (number: number) => `0b8f1f6e-6a0e-4a53-9a53-${String(number).padStart(12, '0')}`;
const NOW = 1_795_800_000_123_456;

const atOrAfter = (instant: number, time: number) => time >= instant;
const atOrBefore = (instant: number, time: number) => time <= instant;
const sessionTable = () => createIdTable(BASE64URL, atOrAfter);
const userTable = () => createIdTable(UUID, atOrBefore);
/** The kinds there are, and ids of each. */
const KINDS = [
  { kind: 'sessions', createTable: sessionTable, covers: atOrAfter, create: newId, alike },
  { kind: 'users', createTable: userTable, covers: atOrBefore, create: randomUUID, alike: userAlike },
  { kind: 'other ids', createTable: userTable, covers: atOrBefore, create: newId, alike: (n: number) => `client ${n}` },
];

type IdTable = ReturnType<typeof createIdTable>;
const contents = (table: IdTable) => new Map([...table.entries()].map(([id, ...values]) => [id, values]));

test.each(KINDS)('$kind: holds what was added and nothing else, through every growth', (of) => {
  const table = of.createTable();
  const ids = [...Array.from({ length: 20_000 }, of.create), ...Array.from({ length: 20_000 }, (_, n) => of.alike(n))];
  // The first have no instant: room for them is made later.
  for (const [n, id] of ids.entries()) table.add(id, 100, n < 5000 ? 0 : NOW + n);
  expect(table.size()).toBe(ids.length);
  expect(ids.every((id, n) => table.has(id, n < 5000 ? 0 : NOW + n))).toBe(true);
  expect(Array.from({ length: 20_000 }, of.create).some((id) => table.has(id, NOW))).toBe(false);
  expect(contents(table)).toEqual(new Map(ids.map((id, n) => [id, [100, n < 5000 ? 0 : NOW + n]])));
});

test.each(KINDS)('$kind: does what a Map does, whatever is added and forgotten in whatever order', (of) => {
  const ids = Array.from({ length: 300 }, (_, n) => of.alike(n));
  const instant = fc.constantFrom(0, NOW, NOW + 1, Number.MAX_SAFE_INTEGER);
  const second = fc.integer({ min: 2, max: 50 });
  const step = fc.oneof(
    { weight: 20, arbitrary: fc.record({ add: fc.nat(ids.length - 1), until: second, instant }) },
    { weight: 1, arbitrary: fc.record({ now: second }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 3000, size: 'max' }), (steps) => {
      const table = of.createTable();
      const map = new Map<string, [until: number, instant: number]>();
      const add = (id: string, until: number, instant: number) => {
        table.add(id, until, instant);
        const [knownUntil, known] = map.get(id) ?? [until, instant];
        map.set(id, [Math.max(until, knownUntil), of.covers(known, instant) ? known : instant]);
      };
      const sweep = (now: number) => {
        table.sweep(now, Number.POSITIVE_INFINITY);
        for (const [id, [until]] of map) if (until < now) map.delete(id);
      };
      for (const step of steps) 'now' in step ? sweep(step.now) : add(ids[step.add] ?? '', step.until, step.instant);
      expect(contents(table)).toEqual(map);
      expect(table.size()).toBe(map.size);
      for (const id of ids)
        for (const time of [0, NOW, NOW + 1, NOW + 2]) {
          const [, known] = map.get(id) ?? [];
          expect(table.has(id, time)).toBe(known !== undefined && of.covers(known, time));
        }
    }),
    { numRuns: 30 },
  );
});

test.each(KINDS)('$kind: of what is told twice, what refuses more and the later second stay', (of) => {
  const table = of.createTable();
  const [id, forgotten] = [of.create(), of.create()];
  for (const [until, instant] of [
    [20, NOW],
    [30, NOW + 1],
    [10, NOW - 1],
  ] as const)
    table.add(id, until, instant);
  expect(contents(table)).toEqual(new Map([[id, [30, of.covers === atOrAfter ? NOW - 1 : NOW + 1]]]));
  // What was forgotten is not told twice.
  table.add(forgotten, 5, of.covers === atOrAfter ? 0 : NOW + 1);
  table.sweep(10, Number.POSITIVE_INFINITY);
  table.add(forgotten, 40, NOW);
  expect(contents(table).get(forgotten)).toEqual([40, NOW]);
});

test('going through it misses nothing that stays, though it grows and forgets meanwhile', () => {
  const table = sessionTable();
  const staying = Array.from({ length: 2000 }, newId);
  for (const id of staying) table.add(id, 1000, 0);
  const seen = new Set<string>();
  for (const [id] of table.entries()) {
    seen.add(id);
    for (let n = 0; n < 5; n += 1) table.add(newId(), 10, 0);
    table.sweep(20, 50);
  }
  expect(staying.every((id) => seen.has(id))).toBe(true);
});

test('what comes with the first instant while it is gone through is not taken for one without', () => {
  const table = sessionTable();
  table.add(newId(), 1000, 0);
  const entries = table.entries();
  entries.next();
  for (let n = 0; n < 100; n += 1) table.add(newId(), 1000, NOW);
  const added = [...entries];
  expect(added.length).toBeGreaterThan(0);
  expect(added.every(([, , instant]) => instant === NOW)).toBe(true);
});

test('what ends and is swept as it comes takes no more room, and an id forgotten can come again', () => {
  const table = sessionTable();
  for (let second = 2; second < 2000; second += 1) {
    for (let n = 0; n < 50; n += 1) table.add(newId(), second, 0);
    table.sweep(second - 1, 1000 + 8 * 50);
    expect(table.size()).toBeLessThan(2500);
  }
  const [again] = [newId()];
  table.add(again, 5, 0);
  table.sweep(10_000, Number.POSITIVE_INFINITY);
  expect(table.has(again, 0)).toBe(false);
  table.add(again, 20_000, 0);
  expect(table.has(again, 0)).toBe(true);
});

const UPPER = '0B8F1F6E-6A0E-4A53-9A53-0D7F3B1C2E4D';
const LOWER = UPPER.toLowerCase();

test.each([
  [
    BASE64URL,
    `${'A'.repeat(21)}Q`,
    [
      '',
      'short',
      `${'A'.repeat(21)}B`,
      'A'.repeat(23),
      `${'A'.repeat(10)}=${'A'.repeat(11)}`,
      `${'A'.repeat(10)}+${'A'.repeat(11)}`,
      'ümlaut'.padEnd(22, 'A'),
      // Its code ends in the eight bits of an A.
      `${'A'.repeat(20)}\u{141}Q`,
    ],
  ],
  [
    UUID,
    LOWER,
    [
      UPPER,
      LOWER.replace('f', 'F'),
      LOWER.replaceAll('-', ''),
      LOWER.replaceAll('-', '0'),
      LOWER.replace('a', '-'),
      `${LOWER.slice(1)}-`,
      LOWER.slice(0, -1),
      `${LOWER}0`,
      `{${LOWER}}`,
      LOWER.replace('b', 'g'),
      LOWER.replace('b', 'ü'),
      LOWER.replace('b', '\u{162}'),
    ],
  ],
] as const)('what is no id of 128 bits in its one spelling is another id', (spelling, id, others) => {
  const table = createIdTable(spelling, atOrAfter);
  for (const text of others) {
    const bytes = Buffer.from(text);
    expect(table.addBytes(bytes, 0, bytes.length, 5, 0), text).toBe(false);
    expect(table.size()).toBe(0);
  }
  table.add(id, 5, 0);
  expect(others.some((text) => table.has(text, 0))).toBe(false);
  for (const text of others) table.add(text, 6, 0);
  expect(contents(table)).toEqual(new Map([[id, [5, 0]], ...others.map((text): [string, number[]] => [text, [6, 0]])]));
  expect(others.every((text) => table.has(text, 0))).toBe(true);
});

test('an id is held whatever its second is: none, none that is a number, one long past or beyond what can be written', () => {
  for (const until of [Number.NaN, 0, 0.5, 1, -5, Number.POSITIVE_INFINITY, 9e9])
    for (const { createTable, create } of KINDS) {
      const table = createTable();
      const id = create();
      table.add(id, until, NOW);
      expect(table.has(id, NOW), String(until)).toBe(true);
      expect(table.size()).toBe(1);
      expect([...table.entries()].map(([held]) => held)).toEqual([id]);
    }
});

/** Bytes in use. */
function inUse(): number {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  for (let times = 0; times < 3; times += 1) collect();
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  return arrayBuffers + heapUsed;
}

test.each([
  { kind: 'a whole session', createTable: sessionTable, create: newId, instant: 0, most: 50 },
  { kind: 'a session from an instant on', createTable: sessionTable, create: newId, instant: NOW, most: 70 },
  { kind: 'a user', createTable: userTable, create: randomUUID, instant: NOW, most: 70 },
  {
    kind: 'another id, cut out of its line',
    createTable: sessionTable,
    create: () => `${'a line '.repeat(100)}${randomUUID()}`.slice(-36),
    instant: NOW,
    most: 300,
  },
])('$kind takes less than $most bytes', ({ createTable, create, instant, most }) => {
  const COUNT = 250_000;
  const before = inUse();
  const table = createTable();
  for (let n = 0; n < COUNT; n += 1) table.add(create(), 1_795_800_660, instant + n * Math.sign(instant));
  expect((inUse() - before) / COUNT).toBeLessThan(most);
  expect(table.size()).toBe(COUNT);
});
