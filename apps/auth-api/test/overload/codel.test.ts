/** How long the first of a queue may have waited, on a clock of the tests' own. */
import { expect, test } from 'vitest';
import { createCoDel } from '../../src/codel.ts';

const BOUNDS = { interval: 1000, target: 100 };

/** Whoever comes, every 10 ms, finds that the first has waited for so long. @returns which of them were told that it is too long. */
function stand(isLate: ReturnType<typeof createCoDel>, waited: number, from: number, until: number) {
  const late: number[] = [];
  for (let now = from; now <= until; now += 10) if (isLate(now - waited, now)) late.push(now);
  return late;
}

test('a burst may wait for long', () => {
  const isLate = createCoDel(BOUNDS);
  expect(isLate(undefined, 0)).toBe(false);
  expect([0, 500, 1000, 1001].map((now) => isLate(0, now))).toEqual([false, false, false, true]);
});

test('a queue that has been long for as long must be short', () => {
  const isLate = createCoDel(BOUNDS);
  // The first that is seen came at 0.
  expect(stand(isLate, 150, 150, 1020)).toEqual([1010, 1020]);
  expect(stand(isLate, 100, 1030, 1100)).toEqual([]);
  expect(stand(isLate, 101, 1110, 1110)).toEqual([1110]);
});

test('a queue that is always short may become a burst', () => {
  const isLate = createCoDel(BOUNDS);
  expect(stand(isLate, 100, 100, 5000)).toEqual([]);
  expect(isLate(4900, 5900)).toBe(false);
});

test('that it was short or empty for a moment changes nothing; that it was for as long as a burst may wait does', () => {
  const isLate = createCoDel(BOUNDS);
  stand(isLate, 150, 150, 1500);
  expect(isLate(undefined, 1600)).toBe(false);
  expect(stand(isLate, 50, 1610, 2000)).toEqual([]);
  expect(isLate(2300, 2450)).toBe(true);
  expect(isLate(undefined, 3000)).toBe(false);
  expect(isLate(3300, 3451)).toBe(false);
});
