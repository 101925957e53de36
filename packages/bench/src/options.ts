/** The command line of `npm run bench`. */
import { parseArgs } from 'node:util';
import { StackFailure } from '@latchkey/dev-stack/stack-failure';

/** What can be measured, in the order in which it is. */
const BENCHMARKS = ['verify', 'refresh', 'registration', 'login', 'mail'] as const;
export type Benchmark = (typeof BENCHMARKS)[number];

export type Options = {
  readonly json: boolean;
  readonly help: boolean;
  readonly only: readonly Benchmark[];
  /** Length of one measurement; there are several of each. */
  readonly seconds: number;
};

/** The shortest with which two runs on a quiet machine agree within a few percent; all of it then takes a minute and a half. */
const DEFAULT_SECONDS = 1.5;

export const USAGE = `npm run bench                           measures everything, within two minutes on two cores
npm run bench -- --only verify,login    only these: ${BENCHMARKS.join(', ')}
npm run bench -- --seconds 5            seconds of one measurement (default ${DEFAULT_SECONDS}); there are several of each
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
  return { json: values.json, help: values.help, only: BENCHMARKS.filter((name) => asked.includes(name)), seconds };
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
      },
    });
  } catch (error) {
    throw new StackFailure(error instanceof Error ? error.message : String(error));
  }
}
