/** `pnpm --filter @latchkey/bench simulate-feed`: how late the verifiers on the revocation feed are (docs/capacity.md). */
import { parseArgs } from 'node:util';
import { type Feed, simulateFeed } from './feed-simulation.ts';

/** `event-cost`, `line-cost`: `feed_cpu` of the bench as docs/capacity.md has it. `beat`: auth-api's with REVOCATION_LAG_MAX_MS=2000. */
const DEFAULTS = {
  verifiers: 10_000,
  instances: 10,
  rate: 20,
  seconds: 60,
  'event-cost': 33,
  'line-cost': 2,
  beat: 400,
  'other-load': 0.3,
  seed: 1,
} as const;
type Name = keyof typeof DEFAULTS;

const USAGE = `pnpm --filter @latchkey/bench simulate-feed
  --verifiers   listeners of all instances together (default ${DEFAULTS.verifiers})
  --instances   of auth-api, whose verifiers are shared evenly (${DEFAULTS.instances})
  --rate        revocations a second (${DEFAULTS.rate})
  --seconds     simulated (${DEFAULTS.seconds})
  --event-cost  microseconds of a core for an event to one verifier (${DEFAULTS['event-cost']})
  --line-cost   and for each further line in it (${DEFAULTS['line-cost']})
  --beat        milliseconds between signs of life (${DEFAULTS.beat})
  --other-load  share of the core that other requests take (${DEFAULTS['other-load']})
  --seed        of the instants of the revocations (${DEFAULTS.seed})
`;

/** What each may be. */
const RANGES: Readonly<Partial<Record<Name, readonly [least: number, most: number]>>> = {
  verifiers: [1, 1e6],
  instances: [1, 1e5],
  rate: [0.001, 1000],
  seconds: [1, 600],
  'other-load': [0, 0.99],
};

function readOptions(args: readonly string[]): Record<Name, number> {
  const names = Object.keys(DEFAULTS) as Name[];
  const { values } = parseArgs({
    args: [...args],
    options: Object.fromEntries(names.map((name) => [name, { type: 'string' as const }])),
  });
  const entries = names.map((name) => {
    const [least, most] = RANGES[name] ?? [0, 1e9];
    const value = Number(values[name] ?? DEFAULTS[name]);
    if (!(value >= least && value <= most)) throw new RangeError(`--${name} must be a number from ${least} to ${most}`);
    return [name, value] as const;
  });
  return Object.fromEntries(entries) as Record<Name, number>;
}

function describe(feed: Feed): string {
  const { p50, p99, max, busy } = simulateFeed(feed);
  const { verifiers, instances, rate } = feed;
  const times = [p50, p99, max].map((late) => late.toFixed(0));
  return `${verifiers} verifiers on ${instances} instances, ${rate} revocations/s: p50 ${times[0]} ms, p99 ${times[1]} ms, most ${times[2]} ms; each is telling ${(busy * 100).toFixed(0)} % of the time\n`;
}

try {
  const {
    'event-cost': eventCost,
    'line-cost': lineCost,
    'other-load': otherLoad,
    ...rest
  } = readOptions(process.argv.slice(2));
  process.stdout.write(describe({ eventCost, lineCost, otherLoad, ...rest }));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${USAGE}`);
  process.exitCode = 1;
}
