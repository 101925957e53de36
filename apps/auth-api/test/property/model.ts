/** What may happen to a user, written a second time: {@link after} is one event, which either follows from the state or cannot have happened. */
import type { Microseconds } from '../../src/store/sessions.ts';
import {
  door,
  type Event,
  ms,
  near,
  opaqueIsGood,
  type RefreshContent,
  refreshAnswer,
  renewedTo,
  type Session,
  type State,
  type Window,
} from './state.ts';
import { LIMITS, SETTINGS } from './system.ts';

/** Why an event cannot have happened in this state. */
class Impossible {
  // No Error: thousands are thrown a second, and a stack costs more than all the rest.
  readonly why: string;
  constructor(why: string) {
    this.why = why;
  }
}

function must(holds: boolean, why: string): asserts holds {
  if (!holds) throw new Impossible(why);
}

/** An instant taken inside the window that must not be before `earliest`, which may lie ahead of the clock. */
function mustBeNow(instant: Microseconds, earliest: Microseconds, { from, to }: Window, what: string): void {
  must(
    instant >= Math.max(from, earliest) && instant <= Math.max(to, earliest),
    `${what} ${instant} is not now, or before ${earliest}`,
  );
}

/**
 * What was issued last, of what lives or the gate remembers: a cut-off of now comes after it, whatever a clock does. (What is left of a
 * session that has ended is an access token at most; issued while the clock stood ahead, it may come after a cut-off made when the clock
 * has stepped back since that end.)
 */
const latestGood = ({ sessions, gateIssued }: State): Microseconds =>
  Math.max(gateIssued, ...[...sessions.values()].map(({ newest }) => newest));

/** The log says this of them, and their end is owed to it no more. */
function withLogged(state: State, ids: Iterable<string>, from: Microseconds = 0): State {
  const denied = new Map(state.denied);
  const owed = new Map(state.owed);
  for (const id of ids) {
    denied.set(id, Math.min(from, denied.get(id) ?? from));
    owed.delete(id);
  }
  return { ...state, denied, owed };
}

const withSession = (state: State, id: string, session: Session): State => ({
  ...state,
  furthest: Math.max(state.furthest, session.newest),
  sessions: new Map(state.sessions).set(id, session),
});

/** These sessions end and the log is owed it. */
function withEnded(state: State, ids: Iterable<string>, { to }: Window): State {
  const sessions = new Map(state.sessions);
  const owed = new Map(state.owed);
  for (const id of ids) {
    // What it was issued ahead of a clock that has stepped back must be refused for as long as it lives.
    const newest = sessions.get(id)?.newest;
    if (newest !== undefined) owed.set(id, ms(Math.max(to, newest)) + LIMITS.accessLife * 1000);
    sessions.delete(id);
  }
  return { ...state, sessions, owed };
}

/** Somebody ends these. What they were issued while the clock stood ahead of where it stands now must still come before a cut-off. */
function withEndedOnPurpose(state: State, ids: readonly string[], window: Window): State {
  const newest = ids.map((id) => state.sessions.get(id)?.newest ?? 0).filter((issuedAt) => issuedAt > window.to);
  const ended = withEnded(state, ids, window);
  return newest.length === 0 ? ended : withGateIssued(ended, Math.max(...newest), window);
}

/** The gate must live as long as an access token that is issued by now could. */
const withGateNeeded = (state: State, { from }: Window): State => ({
  ...state,
  gateNeededUntil: Math.max(
    ms(Math.max(from, state.gate.cutoff, state.gateIssued)) + LIMITS.accessLife * 1000 - 1,
    ms(door(state.gate)),
  ),
});

const withGateIssued = (state: State, issuedAt: Microseconds, window: Window): State =>
  withGateNeeded({ ...state, gateIssued: Math.max(state.gateIssued, issuedAt) }, window);

/** What ended so long ago that none of its access tokens can live is forgotten whenever something ends, or a session is opened. */
const withoutOldEnds = (state: State, { to }: Window): State => ({
  ...state,
  owed: new Map([...state.owed].filter(([, until]) => until > ms(to))),
});

/** The order of eviction: whose first login lies furthest back. */
function mustBeOldest(state: State, evicted: readonly string[]): void {
  for (const id of evicted) {
    const gone = state.sessions.get(id);
    must(gone !== undefined, `${id} was evicted and did not live`);
    for (const [other, session] of state.sessions) {
      if (evicted.includes(other)) continue;
      must(gone.createdAt <= session.createdAt, `${id} was evicted before ${other}, which is older`);
    }
  }
}

/** @param ending live sessions that end now. */
function mustBeOwed({ owed, lapsed }: State, named: readonly string[], ending: readonly string[]): void {
  for (const id of [...owed.keys(), ...ending]) must(named.includes(id), `${id} is owed to the log and is not named`);
  for (const id of named)
    must(owed.has(id) || ending.includes(id) || lapsed.has(id), `${id} is not owed to the log and is named`);
}

function created(state: State, event: Event & { kind: 'create' }, window: Window): State {
  const { outcome, sessionId, format, instance } = event;
  if (door(state.gate) > window.to) {
    must(
      outcome.status === 'closed' && outcome.until === door(state.gate),
      `closed until ${door(state.gate)}, not ${outcome.status}`,
    );
    return state;
  }
  if (state.generation === undefined ? outcome.status === 'changed' : event.generation !== state.generation) {
    must(outcome.status === 'changed', `a login from before generation ${state.generation} was let in`);
    return state;
  }
  must(outcome.status === 'ok', `a login was refused: ${outcome.status}`);
  const known = withoutOldEnds(withGeneration(state, event.generation), window);
  const { createdAt } = outcome;
  mustBeNow(createdAt, state.gate.cutoff + 1, window, 'created');
  must(outcome.first === (state.sessions.size === 0), `first is ${outcome.first} with ${state.sessions.size} others`);
  const evicted = outcome.ended.filter((id) => state.sessions.has(id));
  must(
    evicted.length === Math.max(0, state.sessions.size + 1 - LIMITS.sessions),
    `${evicted.length} were evicted of ${state.sessions.size}`,
  );
  mustBeOldest(state, evicted);
  mustBeOwed(known, outcome.ended, evicted);
  const opaqueLife = SETTINGS[instance]?.OPAQUE_TOKEN_TTL ?? Number.POSITIVE_INFINITY;
  const life = (format === 'jwt' ? LIMITS.idle : opaqueLife) * 1000;
  must((outcome.expiresInMs ?? Number.POSITIVE_INFINITY) === life, `lives ${outcome.expiresInMs} ms, not ${life}`);
  const session: Session = {
    format,
    createdAt,
    newest: createdAt,
    expiresAt: ms(window.to) + life,
    touched: true,
    counter: 0,
    issued: new Map([[0, createdAt]]),
  };
  const next = withSession(withEnded(known, evicted, window), sessionId, session);
  return format === 'jwt' ? withIssued(next, sessionId, createdAt, life, window) : next;
}

/** @param life milliseconds the session lives on. */
function withIssued(state: State, sessionId: string, issuedAt: Microseconds, life: number, window: Window): State {
  const next = { ...state, issued: [...state.issued, { sessionId, issuedAt }] };
  // A cut-off must come after it, and its session will not be there to say so.
  return life < LIMITS.accessLife * 1000 ? withGateIssued(next, issuedAt, window) : next;
}

/** The generation is seen to be this one. */
function withGeneration(state: State, generation: string): State {
  if (state.generation !== undefined) {
    must(generation === state.generation, `generation ${generation}, not ${state.generation}`);
    return state;
  }
  must(
    Number(generation) > state.generationAtLeast,
    `generation ${generation} is not above ${state.generationAtLeast}`,
  );
  return { ...state, generation };
}

/** Another generation, to be seen. */
const withOtherGeneration = (state: State): State => ({
  ...state,
  generation: undefined,
  generationAtLeast: Math.max(state.generationAtLeast, Number(state.generation ?? 0)),
});

function refreshed(
  state: State,
  { token, instance, outcome, answer }: Event & { kind: 'refresh' },
  window: Window,
): State {
  const expected = refreshAnswer(state, token, instance, window.to);
  // Whether the end of what had outlived its TTL is remembered depends on whether Redis still listed it.
  const lapsed = outcome.status === 'ended' && expected.status === 'gone' && state.lapsed.has(token.sessionId);
  must(
    outcome.status === expected.status || lapsed,
    `refresh ${token.counter} of ${token.sessionId}: ${outcome.status}, not ${expected.status}`,
  );
  if (outcome.status !== 'ok') {
    must(answer === expected.code, `the answer is ${JSON.stringify(answer)}, not ${expected.code}`);
    const ends = outcome.status === 'reused' || outcome.status === 'expired';
    return ends ? withEnded(state, [token.sessionId], window) : state;
  }
  const session = state.sessions.get(token.sessionId);
  must(session !== undefined, 'refreshed and gone');
  // A session's tokens are issued in order, whatever a clock does: the newest tells what a cut-off must come after.
  mustBeNow(outcome.now, Math.max(state.gate.cutoff + 1, session.newest), window, 'refreshed');
  const rotates = token.counter === session.counter;
  const issuedAt = rotates ? outcome.now : (session.issued.get(token.counter + 1) ?? 0);
  const next: RefreshContent = { ...token, counter: token.counter + 1, issuedAt };
  must(
    typeof answer !== 'string' && JSON.stringify(answer.next) === JSON.stringify(next),
    `the successor is ${JSON.stringify(answer)}, not ${JSON.stringify(next)}`,
  );
  must(answer.accessIssuedAt === outcome.now, 'the access token is not of now');
  const maxAge = (SETTINGS[instance]?.SESSION_MAX_AGE ?? 0) * 1000;
  const expiresAt = rotates
    ? Math.min(ms(window.to) + LIMITS.idle * 1000, ms(session.createdAt) + maxAge)
    : session.expiresAt;
  must(
    near(outcome.refreshExpiresInMs, expiresAt - ms(window.to)),
    `the refresh token lives ${outcome.refreshExpiresInMs} ms`,
  );
  const life = expiresAt - ms(window.to);
  const { sessionId } = token;
  if (!rotates)
    return withIssued(
      withSession(state, sessionId, { ...session, newest: outcome.now }),
      sessionId,
      outcome.now,
      life,
      window,
    );
  const rotated: Session = {
    ...session,
    newest: outcome.now,
    counter: next.counter,
    issued: new Map(session.issued).set(next.counter, issuedAt),
    expiresAt,
    touched: true,
  };
  return withIssued(withSession(state, sessionId, rotated), sessionId, outcome.now, life, window);
}

function used(state: State, { sessionId, instance, found }: Event & { kind: 'use' }, window: Window): State {
  const good = opaqueIsGood(state, sessionId, window.to);
  must(
    (found !== undefined) === good,
    `the opaque token of ${sessionId} is ${good ? 'good and was refused' : 'dead and was accepted'}`,
  );
  const session = state.sessions.get(sessionId);
  if (found === undefined || session === undefined) return state;
  must(found.issuedAt === session.createdAt, 'the opaque token is of another instant');
  const renewed = renewedTo(session, instance, ms(window.to));
  const expiresAt = renewed ?? session.expiresAt;
  must(
    near(found.expiresAt ?? Number.POSITIVE_INFINITY, expiresAt),
    `the opaque token lives until ${found.expiresAt} ms`,
  );
  const next = { ...state, furthest: Math.max(state.furthest, window.to) };
  return renewed === undefined ? next : withSession(next, sessionId, { ...session, expiresAt, touched: true });
}

function cutOff(state: State, { at, suspended, gate }: Event & { kind: 'cutOff' }, window: Window): State {
  const known = state.gate;
  // Lifting what is not there changes nothing.
  if (suspended === 0 && known.suspendedUntil <= window.to) {
    must(JSON.stringify(gate) === JSON.stringify(known), `lifting nothing left ${JSON.stringify(gate)}`);
    return state;
  }
  const latest = latestGood(state);
  // What nobody holds any more may still be known: a cut-off after it refuses nothing more.
  const ever = Math.max(known.cutoff, state.furthest, latest);
  const refuses =
    gate.closedUntil === known.closedUntil && gate.cutoff === Math.max(known.cutoff, at === 'now' ? 0 : at);
  const ahead = at !== 'now' && !(refuses && at <= Math.max(window.to, ever));
  if (at === 'now' || ahead) {
    must(
      gate.cutoff >= Math.max(known.cutoff, latest, window.from),
      `the cut-off ${gate.cutoff} is before ${latest}, or before now`,
    );
    must(gate.cutoff <= Math.max(window.to, ever), `the cut-off ${gate.cutoff} lies ahead of ${ever} and of now`);
  }
  if (ahead) must(at > Math.max(window.from, latest), `the cut-off is ${gate.cutoff}, not ${at} or ${known.cutoff}`);
  const closedUntil = ahead ? Math.max(known.closedUntil, at) : known.closedUntil;
  must(gate.closedUntil === closedUntil, `closed until ${gate.closedUntil}, not ${closedUntil}`);
  const suspendedUntil = suspended === 'keep' ? known.suspendedUntil : suspended;
  must(gate.suspendedUntil === suspendedUntil, `suspended until ${gate.suspendedUntil}, not ${suspendedUntil}`);
  // A session lives by the refresh token, or opaque token, that is good now.
  const sessions = new Map(
    [...state.sessions].filter(([, { counter, issued }]) => (issued.get(counter) ?? 0) > gate.cutoff),
  );
  const next: State = {
    ...withOtherGeneration(state),
    sessions,
    gate,
    gateIssued: Math.max(latest, window.from),
    furthest: Math.max(state.furthest, window.to),
    cutoff: Math.max(state.cutoff, gate.cutoff),
  };
  return withGateNeeded(next, window);
}

function happened(known: State, event: Event, window: Window): State {
  const ends = event.kind === 'endOne' || event.kind === 'endOthers';
  const state = ends ? withoutOldEnds(known, window) : known;
  switch (event.kind) {
    case 'generation':
      return withGeneration(state, event.generation);
    case 'create':
      return created(state, event, window);
    case 'refresh':
      return refreshed(state, event, window);
    case 'use':
      return used(state, event, window);
    case 'endOne': {
      const { sessionId, owed, refused = owed.length === 0 } = event;
      must(refused === (owed.length === 0), `ending ${sessionId} was ${refused ? 'refused' : 'answered'}`);
      mustBeOwed(
        { ...state, owed: new Map([...state.owed].filter(([id]) => id === sessionId)) },
        owed,
        state.sessions.has(sessionId) ? [sessionId] : [],
      );
      return withEndedOnPurpose(state, [sessionId], window);
    }
    case 'endOthers': {
      const others = [...state.sessions.keys()].filter((id) => id !== event.kept);
      mustBeOwed(state, event.owed, others);
      return withGateNeeded(withOtherGeneration(withEndedOnPurpose(state, others, window)), window);
    }
    case 'logged':
      return withLogged(state, event.sessionIds);
    case 'denied': {
      const { sessionId, issuedAt, ended } = event;
      const expired = ms(issuedAt) + (LIMITS.accessLife + CLOCK_TOLERANCE) * 1000 < ms(window.to);
      // The log holds only what is neither expired nor behind a cut-off; but an end is always written.
      if (ended.length === 0 && (expired || issuedAt <= state.gate.cutoff)) return state;
      return withLogged(state, [sessionId], issuedAt);
    }
    case 'cutOff':
      return cutOff(state, event, window);
  }
}

/** Contract: seconds an access token may still be taken for alive after its end. */
const CLOCK_TOLERANCE = 60;

/** @returns the state after the event, or why it cannot have happened. */
export function after(state: State, event: Event, window: Window): State | string {
  try {
    return happened(state, event, window);
  } catch (error) {
    if (error instanceof Impossible) return error.why;
    throw error;
  }
}
