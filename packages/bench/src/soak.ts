/** `pnpm --filter @latchkey/bench soak`: hours of everybody's use, and whether memory, handles, connections and keys stay as they are. */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { stopAllProcesses } from '@latchkey/dev-stack/processes';
import { createProgress } from '@latchkey/dev-stack/progress';
import { Redis } from 'ioredis';
import { FEWEST, growthOf, isFlat } from './soak/flatness.ts';
import { createPeople } from './soak/people.ts';
import { fillEvents, type Sample, SERIES, takeSample } from './soak/samples.ts';
import { startStand } from './stand.ts';

const DEFAULTS = { minutes: 60, share: 0.7, tolerance: 0.05 };
const USAGE = `pnpm --filter @latchkey/bench soak
  --minutes    of load, half of which warms up (default ${DEFAULTS.minutes})
  --share      of what is sustainable, which is measured first (${DEFAULTS.share})
  --tolerance  share by which something may grow in the second half (${DEFAULTS.tolerance})
`;
const RANGES = { minutes: [0.05, 1440], share: [0.05, 1], tolerance: [0.01, 1] } as const;

const PEOPLE = 100;
const SAMPLES = 60;
/** Seconds between two samples at least: each begins with a full collection. */
const SAMPLE_EVERY = 0.2;
/** Milliseconds of the longest life that ends by itself, as a share of the run: all there is in the second half came in it or shortly before. */
const LIFE = { share: 0.1, least: 5, most: 120 };
/** Seconds of the measurement of what is sustainable: a share of the run. */
const FULL_LOAD = { share: 0.05, least: 1, most: 20 };

/** Verified tokens that auth-api keeps (packages/verifier), so that a run does not measure how they become so many; a short one has fewer. */
const TOKENS = { kept: 10_000, perSecond: 50 };

const within = (seconds: number, { share, least, most }: typeof LIFE) =>
  Math.round(Math.min(most, Math.max(least, share * seconds)));

function readOptions(args: readonly string[]): typeof DEFAULTS {
  const names = Object.keys(DEFAULTS) as (keyof typeof DEFAULTS)[];
  const { values } = parseArgs({
    args: [...args],
    options: Object.fromEntries(names.map((name) => [name, { type: 'string' as const }])),
  });
  const entries = names.map((name) => {
    const [least, most] = RANGES[name];
    const value = Number(values[name] ?? DEFAULTS[name]);
    if (!(value >= least && value <= most)) throw new RangeError(`--${name} must be a number from ${least} to ${most}`);
    return [name, value] as const;
  });
  return Object.fromEntries(entries) as typeof DEFAULTS;
}

/** @returns the table, and what is not flat. */
function judge(samples: readonly Sample[], tolerance: number): { table: string; grown: string[] } {
  const rows = Object.entries(SERIES).map(([name, { unit, atLeast }]) => {
    const found = growthOf(samples.map((sample) => sample[name] ?? Number.NaN));
    const flat = isFlat(found, tolerance, atLeast);
    const [from, to, growth] = [found.from, found.to, found.growth].map((value) => value.toFixed(unit ? 1 : 0));
    return {
      name,
      flat,
      line: `${name.padEnd(24)}${from?.padStart(9)}${to?.padStart(9)}${growth?.padStart(9)} ${unit.padEnd(3)}${flat ? 'flat' : 'GROWS'}`,
    };
  });
  const head = `${'second half'.padEnd(24)}${'first'.padStart(9)}${'last'.padStart(9)}${'grew'.padStart(9)}`;
  return {
    table: [head, ...rows.map(({ line }) => line), ''].join('\n'),
    grown: rows.filter(({ flat }) => !flat).map(({ name }) => name),
  };
}

async function soak({ minutes, share, tolerance }: typeof DEFAULTS): Promise<boolean> {
  const seconds = minutes * 60;
  const life = within(seconds, LIFE);
  const progress = createProgress((text) => process.stderr.write(text));
  const death = Promise.withResolvers<never>();
  death.promise.catch(() => undefined);
  const stand = await startStand(
    { seconds, sessions: 0, revocations: 0, window: 0 },
    progress,
    (message) => death.reject(new Error(message)),
    {
      nodeArgs: [
        '--expose-gc',
        '--import',
        fileURLToPath(new URL('./programs/collect-before-metrics.ts', import.meta.url)),
      ],
      env: Object.fromEntries(
        ['ACCESS_TOKEN_TTL', 'ACTIVATION_KEY_TTL', 'ACTIVATION_RENEWAL_TTL'].map((name) => [name, String(life)]),
      ),
    },
  );
  const died = <T>(task: Promise<T>): Promise<T> => Promise.race([task, death.promise]);
  const redis = new Redis(stand.redisUrl);
  redis.on('error', () => undefined);
  await stand.worker();
  await fillEvents(redis);
  const people = await createPeople(stand, PEOPLE);
  await died(people.verifyNew(Math.min(TOKENS.kept, Math.round(TOKENS.perSecond * seconds))));
  const full = await died(people.live(within(seconds, FULL_LOAD)));
  const rate = share * full;
  progress.line(
    `  ${full.toFixed(0)} acts a second are sustainable, ${rate.toFixed(0)} it shall be for ${minutes} min`,
  );

  const every = Math.max(SAMPLE_EVERY, seconds / SAMPLES);
  const samples: Sample[] = [];
  let living = true;
  async function look(): Promise<void> {
    for (let due = performance.now(); living; due += every * 1000) {
      const { sample } = await takeSample(stand, redis, life);
      samples.push(sample);
      if (samples.length % 10 === 0) progress.line(`  ${samples.length} samples`);
      await delay(Math.max(0, due + every * 1000 - performance.now()));
    }
  }
  /** Where the machine is slow to look, they live on until something can be said. */
  async function live(): Promise<number> {
    const done = await people.live(seconds, rate);
    return samples.length < FEWEST ? live() : done;
  }
  const lived = live().finally(() => {
    living = false;
  });
  const [done] = await died(Promise.all([lived, look()]));
  // Now that nobody is between two requests: a login has the new session before it has ended the old one.
  const { kinds } = await died(takeSample(stand, redis, life));
  people.leave();
  redis.disconnect();
  await stand.stop();

  const { table, grown } = judge(samples, tolerance);
  const list = [...kinds].toSorted(([, a], [, b]) => b - a).map(([kind, count]) => `${count} ${kind}`);
  process.stdout.write(
    `${done.toFixed(0)} acts a second of ${full.toFixed(0)} for ${minutes} min, each answered well, ${people.refused()} of them after a 503 with Retry-After; ${samples.length} samples\n\n${table}\nRedis keys: ${list.join(', ')}\n`,
  );
  if (grown.length > 0) process.stdout.write(`grows by more than ${tolerance * 100} %: ${grown.join(', ')}\n`);
  return grown.length === 0;
}

let exitCode = 1;
try {
  exitCode = (await soak(readOptions(process.argv.slice(2)))) ? 0 : 1;
} catch (error) {
  const usage = error instanceof RangeError || (error instanceof TypeError && 'code' in error) ? `\n\n${USAGE}` : '\n';
  process.stderr.write(`${error instanceof Error ? error.message : error}${usage}`);
} finally {
  await stopAllProcesses();
}
process.exit(exitCode);
