import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { type Feed, simulateFeed } from '../src/feed-simulation.ts';

const FEED: Feed = {
  verifiers: 1000,
  instances: 1,
  rate: 1,
  seconds: 600,
  eventCost: 50,
  lineCost: 0,
  beat: 1e9,
  otherLoad: 0,
  seed: 1,
};

describe('the simulation of the revocation feed', () => {
  test('has the last verifier of a quiet instance hear after one event for each before it', () => {
    // 1000 times 50 us; half of them hear in half of that.
    const { p50, p99, busy } = simulateFeed({ ...FEED, rate: 0.01, seconds: 100_000 });
    expect(p50).toBeCloseTo(25, 0);
    expect(p99).toBeCloseTo(50, 0);
    expect(busy).toBeCloseTo(0.01 * 0.05, 3);
  });

  test('halves lateness with twice the instances, and has all take longer beside other load', () => {
    const alone = simulateFeed({ ...FEED, rate: 0.01, seconds: 100_000 });
    expect(simulateFeed({ ...FEED, rate: 0.01, seconds: 100_000, instances: 2 }).p99).toBeCloseTo(alone.p99 / 2, 0);
    expect(simulateFeed({ ...FEED, rate: 0.01, seconds: 100_000, otherLoad: 0.5 }).p99).toBeCloseTo(2 * alone.p99, 0);
  });

  test('tells what comes during a round in the next one, all at once: more revocations cost no more rounds', () => {
    const { p99, max, busy } = simulateFeed({ ...FEED, rate: 1000, seconds: 20 });
    expect(busy).toBeGreaterThan(0.99);
    // At worst just missed a round.
    expect(max).toBeLessThanOrEqual(2 * 50 + 1);
    expect(p99).toBeGreaterThan(50);
  });

  test('falls behind when lines cost more than the core has', () => {
    const short = simulateFeed({ ...FEED, rate: 1000, lineCost: 1.1, seconds: 10 });
    const long = simulateFeed({ ...FEED, rate: 1000, lineCost: 1.1, seconds: 40 });
    expect(long.max).toBeGreaterThan(1.5 * short.max);
  });

  test('counts signs of life, and says the same for the same seed', () => {
    const quiet = { ...FEED, rate: 0.001, seconds: 1000, beat: 500 };
    expect(simulateFeed(quiet).busy).toBeCloseTo(50 / 550, 2);
    expect(simulateFeed({ ...FEED, rate: 50, seconds: 60 })).toEqual(simulateFeed({ ...FEED, rate: 50, seconds: 60 }));
    expect(simulateFeed({ ...FEED, rate: 50, seconds: 60 })).not.toEqual(
      simulateFeed({ ...FEED, rate: 50, seconds: 60, seed: 2 }),
    );
  });
});

describe('simulate-feed', () => {
  const run = (...args: string[]) =>
    promisify(execFile)(process.execPath, [
      fileURLToPath(new URL('../src/simulate-feed.ts', import.meta.url)),
      ...args,
    ]);

  test('says how late verifiers are', async () => {
    const { stdout } = await run('--verifiers', '500', '--instances', '2', '--seconds', '10');
    expect(stdout).toMatch(
      /^500 verifiers on 2 instances, 20 revocations\/s: p50 \d+ ms, p99 \d+ ms, most \d+ ms; each is telling \d+ % of the time\n$/,
    );
  });

  test.each([
    [['--verifiers', 'many'], '--verifiers must be a number'],
    [['--other-load', '1'], '--other-load must be a number from 0 to 0.99'],
    [['--listeners', '1'], '--listeners'],
  ])('refuses %j by name, with its usage', async (args, message) => {
    const failure = (await run(...args).catch((error: unknown) => error)) as { code: number; stderr: string };
    expect(failure.code).toBe(1);
    expect(failure.stderr).toContain(message);
    expect(failure.stderr).toContain('pnpm --filter @latchkey/bench simulate-feed');
  });
});
