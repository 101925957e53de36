/** What may happen to users, in abstract: which of their tokens is meant is decided when it happens, from those there are. */
import fc from 'fast-check';
import { DOOR_PHASE, SETTINGS } from './system.ts';

/** Users per run: enough that one could touch what is another's. */
export const USERS = 2;

/** Microseconds in a second. */
export const SECOND = 1_000_000;

/** Commands that need nothing more said. */
type Plain = 'prepareLogin' | 'refresh' | 'useOpaque' | 'endCurrent' | 'endOthers' | 'endAll' | 'denyToken' | 'lift';

export type Command = { user: number; instance: number; pick: number } & (
  | { kind: Plain }
  /** `prepared`: with a generation that was read earlier, as by a login whose password takes long to check. */
  | { kind: 'login'; format: 'jwt' | 'opaque'; prepared: boolean }
  /** `foreign`: with the session of another user. */
  | { kind: 'endOne'; foreign: boolean }
  /** Microseconds after a token was issued. */
  | { kind: 'cutOffAt'; after: number }
  /** Seconds from now. */
  | { kind: 'cutOffAhead'; ahead: number }
  /** Seconds from now; null: until lifted. */
  | { kind: 'suspend'; ahead: number | null }
);

export type Step =
  /** Seconds; negative: the clock of Redis is stepped back. */
  | { kind: 'advance'; seconds: number }
  /** At the same time. */
  | { kind: 'burst'; commands: Command[] };

const pick = fc.nat(1000);
const who = { user: fc.nat(USERS - 1), instance: fc.nat(SETTINGS.length - 1), pick };
const ahead = fc.integer({ min: 0, max: 8 }).map((thousands) => thousands * 1000 + DOOR_PHASE);
const plain = <K extends Plain>(kind: K) => fc.record({ ...who, kind: fc.constant(kind) });

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 3, arbitrary: plain('prepareLogin') },
  {
    weight: 14,
    arbitrary: fc.record({
      ...who,
      kind: fc.constant('login' as const),
      format: fc.constantFrom('jwt' as const, 'jwt' as const, 'opaque' as const),
      prepared: fc.boolean(),
    }),
  },
  { weight: 24, arbitrary: plain('refresh') },
  { weight: 10, arbitrary: plain('useOpaque') },
  {
    weight: 4,
    arbitrary: fc.record({
      ...who,
      kind: fc.constant('endOne' as const),
      foreign: fc.nat(7).map((nth) => nth === 7),
    }),
  },
  { weight: 2, arbitrary: plain('endCurrent') },
  { weight: 3, arbitrary: plain('endOthers') },
  { weight: 2, arbitrary: plain('endAll') },
  { weight: 6, arbitrary: plain('denyToken') },
  {
    weight: 5,
    arbitrary: fc.record({ ...who, kind: fc.constant('cutOffAt' as const), after: fc.constantFrom(0, 0, -1, 1) }),
  },
  { weight: 1, arbitrary: fc.record({ ...who, kind: fc.constant('cutOffAhead' as const), ahead }) },
  {
    weight: 1,
    arbitrary: fc.record({ ...who, kind: fc.constant('suspend' as const), ahead: fc.option(ahead, { freq: 4 }) }),
  },
  { weight: 3, arbitrary: plain('lift') },
);

/** Seconds: within the grace, past it, past the life of an access token, past that of a session. */
const seconds = fc.constantFrom(1000, 1000, 2000, 2000, 5000, 12_000, 22_000, -1000, -2000);

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('advance' as const), seconds }) },
  {
    weight: 3,
    arbitrary: command.map((only): Step => ({ kind: 'burst', commands: [only] })),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('burst' as const),
      commands: fc.array(command, { minLength: 2, maxLength: 5, size: 'max' }),
    }),
  },
);

export const history: fc.Arbitrary<Step[]> = fc.array(step, { maxLength: 40, size: 'max' });
