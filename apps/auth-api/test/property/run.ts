/** One history played against the system, the model beside it. */
import { type Command, SECOND, type Step, USERS } from './commands.ts';
import { answeredDifferences, settled, storedDifferences } from './difference.ts';
import { type Holdings, newHoldings, type Plan, planned } from './known.ts';
import { after } from './model.ts';
import type { Seen } from './moving-clock.ts';
import { observe } from './observe.ts';
import { at, type Event, NEW_USER, type State, type Window } from './state.ts';
import type { Lane } from './system.ts';

/** The system did what the model has no explanation for. */
export class Difference extends Error {
  override readonly name = 'Difference';
}

/** Seconds the clock may stand behind what it once showed: less than the life of an access token, for which the gate is kept. */
const MOST_BEHIND = 3000;

interface User {
  holdings: Holdings;
  state: State;
  /** When Redis was looked at last. */
  lookedAt: number;
  /** Refused tokens and what they answered when they were last asked. */
  told: Map<string, string>;
}

/** What one command did, in its order. */
type Thread = readonly Event[];

/**
 * Looks for the orders of the events that the model accepts and after which Redis holds what the model says. Each script is one moment, so
 * there must be one.
 * @returns the states they end in.
 */
function* explanations(
  state: State,
  threads: readonly Thread[],
  window: Window,
  seen: Seen,
  why: string[],
): Generator<State> {
  const waiting = threads.filter((thread) => thread.length > 0);
  if (waiting.length === 0) {
    const [difference] = storedDifferences(state, seen);
    if (difference === undefined) yield state;
    else why.push(difference);
    return;
  }
  for (const thread of waiting) {
    const [event, ...rest] = thread;
    if (event === undefined) continue;
    const next = after(state, event, window);
    if (typeof next === 'string') why.push(next);
    else
      yield* explanations(
        next,
        threads.map((other) => (other === thread ? rest : other)),
        window,
        seen,
        why,
      );
  }
}

const shown = (value: unknown): string =>
  JSON.stringify(value, (_key, item: unknown) => {
    if (item instanceof Map) return Object.fromEntries(item);
    if (item instanceof Set) return [...item];
    return item === Number.POSITIVE_INFINITY ? 'never' : item;
  });

async function settle(system: Lane, user: User, threads: readonly Thread[], ask: boolean): Promise<void> {
  const { holdings } = user;
  const seen = await system.clock.look(holdings.id, holdings.sessionIds);
  const before = at(user.state, user.lookedAt);
  const window = { from: user.lookedAt, to: seen.now };
  const why: string[] = [];
  let contradiction: string | undefined;
  // What was written to the log is seen by what tokens are worth only: of two orders that Redis explains alike, one may be contradicted by it.
  for (const found of explanations({ ...before }, threads, window, seen, why)) {
    const state = settled(found, seen);
    const told = new Map(user.told);
    const differences = ask ? answeredDifferences(system, holdings, state, seen, told) : [];
    const difference = await firstOf(differences);
    if (difference === undefined) {
      Object.assign(user, { state, told, lookedAt: seen.now });
      return;
    }
    contradiction ??= `${difference}\n  after ${shown(threads)}\n  model ${shown(state)}\n  Redis ${shown(seen)}`;
  }
  const reasons = [...new Set(why)].slice(0, 8).join('\n    ');
  throw new Difference(
    contradiction ??
      `no order of these explains what Redis holds:\n    ${reasons}\n  events ${shown(threads)}\n  window ${shown(window)}\n  model ${shown(before)}\n  Redis ${shown(seen)}`,
  );
}

async function firstOf<T>(all: AsyncIterable<T> | Iterable<T>): Promise<T | undefined> {
  for await (const one of all) return one;
  return undefined;
}

/** @param ask whether to compare what every token is worth, and not only what Redis holds. */
async function burst(system: Lane, users: readonly User[], plans: readonly Plan[], ask = true): Promise<void> {
  const events = await Promise.all(plans.map((plan) => observe(system, plan)));
  const meant = users.filter(({ holdings }) => plans.some(({ holder }) => holder === holdings));
  await Promise.all(
    meant.map((user) =>
      settle(
        system,
        user,
        events.filter((_, index) => plans[index]?.holder === user.holdings),
        ask,
      ),
    ),
  );
}

/** Lets time pass, and lets the model forget what Redis may have forgotten. */
async function advance(system: Lane, users: readonly User[], us: number): Promise<void> {
  await system.clock.advance(
    us,
    users.map(({ holdings }) => holdings),
  );
  for (const user of users) {
    const { id, sessionIds } = user.holdings;
    const seen = await system.clock.look(id, sessionIds);
    const state = at(user.state, seen.now);
    const [difference] = storedDifferences(state, seen);
    if (difference !== undefined)
      throw new Difference(`${difference}\n  after ${us} us passed\n  model ${shown(state)}\n  Redis ${shown(seen)}`);
    user.state = settled(state, seen);
    user.lookedAt = seen.now;
    user.told.clear();
    for await (const problem of answeredDifferences(system, user.holdings, user.state, seen, user.told))
      throw new Difference(`${problem}\n  after ${us} us passed\n  model ${shown(user.state)}\n  Redis ${shown(seen)}`);
  }
}

/**
 * Whether Redis still lists a session that has outlived its TTL: by a clock that is stepped back now, it would seem to live (and count
 * against the limit, for as long as the step was) though its hash is gone. No index over keys that expire can know better.
 */
async function listsLapsed(system: Lane, users: readonly User[]): Promise<boolean> {
  for (const { holdings, state } of users) {
    const { index } = await system.clock.look(holdings.id, []);
    for (const id of index.keys()) if (!state.sessions.has(id)) return true;
  }
  return false;
}

/** A login whose password takes as long as this to check is not the system's: a generation read before is dropped. */
const forgetPrepared = (users: readonly User[]): void => {
  for (const { holdings } of users) holdings.prepared.length = 0;
};

function plansOf(commands: readonly Command[], users: readonly User[]): Plan[] {
  const holdings = users.map((user) => user.holdings);
  return commands.flatMap((command) => {
    const plan = planned(command, holdings, users[command.user]?.lookedAt ?? 0);
    if (plan?.kind === 'login') plan.holder.sessionIds.push(plan.sessionId);
    return plan ?? [];
  });
}

/** Presents every token there is, one after the other. */
const everyToken = ({ holdings }: User): Plan[] => [
  ...[...holdings.refreshTokens].map(([token, content]) => ({
    holder: holdings,
    instance: 0,
    kind: 'refresh' as const,
    token,
    content,
  })),
  ...holdings.opaque.map((sessionId) => ({ holder: holdings, instance: 1, kind: 'useOpaque' as const, sessionId })),
];

/**
 * Plays a history for users of its own.
 * @param onStep called for each thing that was done.
 * @throws {Difference}
 */
export async function play(system: Lane, steps: readonly Step[], onStep: (count: number) => void): Promise<void> {
  const users: User[] = Array.from({ length: USERS }, () => ({
    holdings: newHoldings(),
    state: NEW_USER,
    lookedAt: 0,
    told: new Map(),
  }));
  await system.addUsers(users.map(({ holdings }) => holdings.id));
  for (const user of users) user.lookedAt = (await system.clock.look(user.holdings.id, [])).now;
  let furthest = 0;
  for (const step of steps) {
    if (step.kind === 'burst') {
      const plans = plansOf(step.commands, users);
      await burst(system, users, plans);
      onStep(plans.length);
      continue;
    }
    const to = system.clock.offset() + step.seconds * SECOND;
    if (to < Math.max(0, furthest - MOST_BEHIND * SECOND)) continue;
    if (step.seconds < 0 && (await listsLapsed(system, users))) continue;
    furthest = Math.max(furthest, to);
    forgetPrepared(users);
    await advance(system, users, step.seconds * SECOND);
    onStep(1);
  }
  for (const user of users) {
    for (const plan of everyToken(user)) await burst(system, users, [plan], false);
    onStep(user.holdings.refreshTokens.size + user.holdings.opaque.length);
    await system.clock.forget(user.holdings.id, user.holdings.sessionIds);
  }
}
