/** How long the first of a queue may have waited, on a clock of the tests' own. */
import { expect, test } from 'vitest';
import { createQueuePatience } from '../../src/queue-patience.ts';

const BOUNDS = { burst: 1000, standing: 100 };

test('a burst may wait for long', () => {
  const isLate = createQueuePatience(BOUNDS);
  expect(isLate(undefined, 0)).toBe(false);
  expect([0, 500, 1000, 1001].map((now) => isLate(0, now))).toEqual([false, false, false, true]);
});

/** Whoever comes every 10 ms finds the first to have waited for 50, from 0 to `until`. */
function stand(isLate: ReturnType<typeof createQueuePatience>, until: number) {
  for (let now = 0; now <= until; now += 10) expect(isLate(Math.max(0, now - 50), now)).toBe(false);
}

test('a queue that was there for as long has less time', () => {
  const isLate = createQueuePatience(BOUNDS);
  stand(isLate, 1000);
  expect([1100, 1101].map((now) => isLate(1000, now))).toEqual([false, true]);
});

test('that it was empty for a moment does not make it a burst; that nobody was seen to wait for as long does', () => {
  const isLate = createQueuePatience(BOUNDS);
  stand(isLate, 1500);
  expect(isLate(undefined, 1600)).toBe(false);
  expect([2000, 2101].map((now) => isLate(2000, now))).toEqual([false, true]);
  expect(isLate(undefined, 3000)).toBe(false);
  expect([3102, 3300].map((now) => isLate(3102, now))).toEqual([false, false]);
});
