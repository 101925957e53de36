/** The command line of `npm run bench`. */
import { parseArgs } from 'node:util';
import { StackFailure } from '@latchkey/dev-stack/stack-failure';

/** What can be measured, in the order in which it is. */
const BENCHMARKS = [
  'verify',
  'opaque',
  'introspection',
  'instances',
  'in-process',
  'window',
  'revocation',
  'feed',
  'refresh',
  'registration',
  'login',
  'storm',
  'mail',
  'memory',
] as const;
export type Benchmark = (typeof BENCHMARKS)[number];

export type Options = {
  readonly json: boolean;
  readonly help: boolean;
  readonly only: readonly Benchmark[];
  /** Length of one measurement; there are several of each. */
  readonly seconds: number;
  /** Times that each is measured in turn with its baseline; missing: as often as each benchmark needs for a median that stays. */
  readonly rounds?: number;
  /** Sessions whose memory is measured. */
  readonly sessions: number;
  /** Revocations that are timed until every verifier knows them. */
  readonly revocations: number;
  /** Lines of the log a new verifier has to read. */
  readonly window: number;
};

/** The shortest with which two runs on a quiet machine agree within a few percent. */
const DEFAULT_SECONDS = 1.5;

/** Whole numbers: what the promises speak of, and what they may be set to. */
const SIZES = {
  sessions: { usual: 1_000_000, least: 1000, most: 10_000_000 },
  revocations: { usual: 1000, least: 10, most: 100_000 },
  window: { usual: 1_000_000, least: 1000, most: 10_000_000 },
} as const;
const ROUNDS = { least: 1, most: 100 } as const;

export const USAGE = `npm run bench                           measures everything, in some seven minutes on two cores
npm run bench -- --only verify,login    only these: ${BENCHMARKS.join(', ')}
npm run bench -- --seconds 5            seconds of one measurement (default ${DEFAULT_SECONDS}); there are several of each
npm run bench -- --rounds 9             times that each is measured in turn with its baseline (default 3 or 5, as it needs)
npm run bench -- --sessions 10000       sessions whose memory is measured (default ${SIZES.sessions.usual})
npm run bench -- --revocations 100      revocations timed until all verifiers know them (default ${SIZES.revocations.usual})
npm run bench -- --window 10000         lines of the log a new verifier reads (default ${SIZES.window.usual})
npm run --silent bench -- --json        the result as one JSON document on standard output
`;

/** @throws StackFailure saying what is wrong. */
export function readOptions(args: readonly string[]): Options {
  const { values } = parsed(args);
  const seconds = Number(values.seconds ?? DEFAULT_SECONDS);
  if (!(seconds > 0 && seconds <= 600)) {
    throw new StackFailure('--seconds must be a number above 0, 600 at most');
  }
  const asked = values.only?.split(',') ?? BENCHMARKS;
  const unknown = asked.filter((name) => !BENCHMARKS.some((known) => known === name));
  if (unknown.length > 0) {
    throw new StackFailure(
      `--only knows ${BENCHMARKS.join(', ')}; not ${unknown.map((name) => `"${name}"`).join(', ')}`,
    );
  }
  return {
    json: values.json,
    help: values.help,
    only: BENCHMARKS.filter((name) => asked.includes(name)),
    seconds,
    ...(values.rounds === undefined ? {} : { rounds: whole('rounds', values.rounds, ROUNDS) }),
    sessions: size('sessions', values.sessions),
    revocations: size('revocations', values.revocations),
    window: size('window', values.window),
  };
}

const size = (name: keyof typeof SIZES, given: string | undefined): number =>
  given === undefined ? SIZES[name].usual : whole(name, given, SIZES[name]);

function whole(name: string, given: string, { least, most }: { least: number; most: number }): number {
  const value = Number(given);
  if (!(Number.isInteger(value) && value >= least && value <= most)) {
    throw new StackFailure(`--${name} must be a whole number from ${least} to ${most}`);
  }
  return value;
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
        only: { type: 'string' },
        seconds: { type: 'string' },
        rounds: { type: 'string' },
        sessions: { type: 'string' },
        revocations: { type: 'string' },
        window: { type: 'string' },
      },
    });
  } catch (error) {
    throw new StackFailure(error instanceof Error ? error.message : String(error));
  }
}
