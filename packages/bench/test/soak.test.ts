import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { growthOf, isFlat } from '../src/soak/flatness.ts';
import { roundOfActs } from '../src/soak/people.ts';

/** As the bytes of a heap: some of it comes and goes. Numerical Recipes' generator, so that a run says what the last one said. */
function heap(length: number, growth: number, noise: number): number[] {
  let state = 1;
  return Array.from({ length }, (_, n) => {
    state = (1_664_525 * state + 1_013_904_223) % 2 ** 32;
    // Caches fill in the first half.
    return 60 + 40 * Math.min(1, n / (length / 2)) + (growth * n) / length + noise * (state / 2 ** 32 - 0.5);
  });
}

describe('whether something is flat', () => {
  test('is judged by the second half: what fills first is no growth', () => {
    const found = growthOf(heap(60, 0, 3));
    expect(found.from).toBeCloseTo(100, -1);
    expect(isFlat(found, 0.05, 1)).toBe(true);
  });

  test('a leak is found in noise larger than what it adds between two samples, and its size is right', () => {
    const found = growthOf(heap(60, 30, 5));
    expect(found.growth).toBeGreaterThan(12);
    expect(found.growth).toBeLessThan(18);
    expect(isFlat(found, 0.05, 1)).toBe(false);
    expect(isFlat(found, 0.2, 1)).toBe(true);
  });

  test('one high sample at the end, or a step that was a few samples, is none', () => {
    const spike = heap(60, 0, 3).with(-1, 500);
    expect(isFlat(growthOf(spike), 0.05, 1)).toBe(true);
    const falling = heap(60, 0, 3).map((value, n) => value - n / 3);
    expect(isFlat(growthOf(falling), 0.05, 1)).toBe(true);
  });

  test('a step that stays is growth; a little of something small is not', () => {
    expect(isFlat(growthOf(heap(60, 0, 3).map((value, n) => value + (n > 44 ? 30 : 0))), 0.05, 1)).toBe(false);
    const handles = Array.from({ length: 60 }, (_, n) => (n > 44 ? 13 : 10));
    expect(isFlat(growthOf(handles), 0.05, 4)).toBe(true);
  });

  test('what was not measured is not flat', () => {
    expect(() => growthOf([...heap(60, 0, 3), Number.NaN])).toThrow(RangeError);
    expect(() => growthOf([1, 2, 3])).toThrow(RangeError);
  });
});

test('a round has every act as often as it should, the rare ones apart', () => {
  const acts = roundOfActs();
  const places = (act: string) => acts.flatMap((one, n) => (one === act ? n : []));
  const times = ['verify', 'refresh', 'login', 'register'].map((act) => places(act).length);
  expect(times).toEqual([200, 40, 2, 1]);
  const [first = 0, second = 0] = places('login');
  expect(second - first).toBeGreaterThan(100);
});

describe('soak', () => {
  const run = (...args: string[]) =>
    promisify(execFile)(process.execPath, [fileURLToPath(new URL('../src/soak.ts', import.meta.url)), ...args]);

  test('of a few seconds: every request is answered well, and what was looked at is listed', {
    timeout: 600_000,
  }, async () => {
    const { stdout } = await run('--minutes', '0.05', '--tolerance', '1');
    expect(stdout).toMatch(
      /^\d+ acts a second of \d+ for 0\.05 min, each answered well, \d+ of them after a 503 with Retry-After; \d+ samples\n/,
    );
    for (const app of ['auth-api', 'mailer-worker'])
      for (const what of ['heap', 'external', 'rss', 'fds', 'handles'])
        expect(stdout).toMatch(new RegExp(`^${app} ${what} +[1-9]\\d*(\\.\\d)? .*flat$`, 'm'));
    expect(stdout).toMatch(/^Redis keys +[1-9]\d* .*flat$/m);
    expect(stdout).toMatch(/^Redis keys: (?:.*, )?100 session\b/m);
  });

  test.each([
    [['--share', '2'], '--share must be a number from 0.05 to 1'],
    [['--hours', '1'], '--hours'],
  ])('refuses %j by name, with its usage', async (args, message) => {
    const failure = (await run(...args).catch((error: unknown) => error)) as { code: number; stderr: string };
    expect(failure.code).toBe(1);
    expect(failure.stderr).toContain(message);
    expect(failure.stderr).toContain('pnpm --filter @latchkey/bench soak');
  });
});
