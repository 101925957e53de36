/** One user as the system is meant to know them: what lives, what is refused, what is owed; and what each token is worth given that. */
import type { CreateOutcome, Gate, Microseconds, RefreshOutcome } from '../../src/store/sessions.ts';
import { LIMITS, SETTINGS } from './system.ts';

/** Milliseconds a script and whoever asked for it may read the clock apart, on a machine that has other things to do; limits lie 250 s apart. */
export const NEAR = 20_000;

export interface RefreshContent {
  userId: string;
  sessionId: string;
  counter: number;
  createdAt: Microseconds;
  issuedAt: Microseconds;
}

export interface Session {
  readonly format: 'jwt' | 'opaque';
  readonly createdAt: Microseconds;
  /** When its newest access token was issued, or its opaque token. */
  readonly newest: Microseconds;
  /** Milliseconds; Infinity: never. */
  readonly expiresAt: number;
  /** Changed since Redis was last looked at: `expiresAt` is what was reckoned, not what was seen. */
  readonly touched: boolean;
  readonly counter: number;
  /** When the refresh token of each counter was issued. */
  readonly issued: ReadonlyMap<number, Microseconds>;
}

export interface State {
  /** Live ones. */
  readonly sessions: ReadonlyMap<string, Session>;
  /** Sessions that outlived their TTL; Redis may still list them. */
  readonly lapsed: ReadonlySet<string>;
  /** Sessions whose end is owed to the revocation log: id → milliseconds until which that is remembered. */
  readonly owed: ReadonlyMap<string, number>;
  /** As Redis knows it: forgotten once what it refuses has expired. */
  readonly gate: Gate;
  /** undefined: another one than before, not seen yet. */
  readonly generation: string | undefined;
  /** What a new generation must be above. */
  readonly generationAtLeast: number;
  /** Milliseconds until which the gate must be known. */
  readonly gateNeededUntil: number;
  /** What the gate must remember as issued, because no live session says so: the next cut-off comes after it, whatever a clock does. */
  readonly gateIssued: Microseconds;
  /** The latest instant that Redis may have written for this user, whatever its clock showed since. */
  readonly furthest: Microseconds;
  /** What the revocation log must say: session id → from which instant on; and the user's cut-off. */
  readonly denied: ReadonlyMap<string, Microseconds>;
  readonly cutoff: Microseconds;
  /** Access tokens issued. */
  readonly issued: readonly { sessionId: string; issuedAt: Microseconds }[];
}

export const NEW_USER: State = {
  sessions: new Map(),
  lapsed: new Set(),
  owed: new Map(),
  gate: { cutoff: 0, closedUntil: 0, suspendedUntil: 0 },
  generation: '0',
  generationAtLeast: 0,
  gateNeededUntil: 0,
  gateIssued: 0,
  furthest: 0,
  denied: new Map(),
  cutoff: 0,
  issued: [],
};

/** Between which instants the events of a burst happened. */
export interface Window {
  from: Microseconds;
  to: Microseconds;
}

export type Event =
  | { kind: 'generation'; generation: string }
  | {
      kind: 'create';
      sessionId: string;
      format: 'jwt' | 'opaque';
      instance: number;
      generation: string;
      outcome: CreateOutcome;
    }
  | {
      kind: 'refresh';
      token: RefreshContent;
      instance: number;
      outcome: RefreshOutcome;
      /** What the domain made of it: a pair, or the code of a problem. */
      answer: { next: RefreshContent; accessIssuedAt: Microseconds } | string;
    }
  | {
      kind: 'use';
      sessionId: string;
      instance: number;
      found: { issuedAt: Microseconds; expiresAt: number | null } | undefined;
    }
  /** `owed`: what the store named as owed to the revocation log; `refused`: whether the caller heard that there is no such session. */
  | { kind: 'endOne'; sessionId: string; owed: readonly string[]; refused?: boolean }
  | { kind: 'endOthers'; kept: string; owed: readonly string[] }
  /** These were to be written to the log, and are owed no more. */
  | { kind: 'logged'; sessionIds: readonly string[] }
  /** One access token was to be written to the log. `ended`: what the store named as owed when its session was to end. */
  | { kind: 'denied'; sessionId: string; issuedAt: Microseconds; ended: readonly string[] }
  | { kind: 'cutOff'; at: Microseconds | 'now'; suspended: Microseconds | 'keep'; gate: Gate };

export const ms = (us: Microseconds): number => us / 1000;
export const door = ({ closedUntil, suspendedUntil }: Gate): Microseconds => Math.max(closedUntil, suspendedUntil);
export const near = (a: number, b: number): boolean => a === b || Math.abs(a - b) <= NEAR;

/** How a refresh token must be answered. `quiet`: the answer changes nothing. */
export function refreshAnswer(
  { sessions, owed, gate, cutoff }: State,
  token: RefreshContent,
  instance: number,
  now: Microseconds,
): { status: RefreshOutcome['status']; code: string; quiet: boolean } {
  const maxAge = (SETTINGS[instance]?.SESSION_MAX_AGE ?? 0) * 1000;
  const session = sessions.get(token.sessionId);
  if (session === undefined) {
    const tooOld = ms(now) >= Math.min(ms(token.issuedAt) + LIMITS.idle * 1000, ms(token.createdAt) + maxAge);
    const code = tooOld ? 'session_expired' : 'session_revoked';
    return { status: owed.has(token.sessionId) ? 'ended' : 'gone', code, quiet: true };
  }
  if (token.issuedAt <= gate.cutoff || door(gate) > now) return { status: 'cut', code: 'session_revoked', quiet: true };
  if (ms(session.createdAt) + maxAge <= ms(now)) return { status: 'expired', code: 'session_expired', quiet: false };
  const replaced = session.issued.get(token.counter + 1) ?? 0;
  if (
    token.counter < session.counter &&
    Math.max(now, gate.cutoff + 1, session.newest) - replaced > LIMITS.grace * 1_000_000
  )
    return { status: 'reused', code: 'refresh_token_reused', quiet: false };
  // Whatever Redis has forgotten of the gate meanwhile.
  if (token.issuedAt <= cutoff) return { status: 'cut', code: 'session_revoked', quiet: true };
  return { status: 'ok', code: '', quiet: false };
}

/** Contract, "TTL rules of an opaque token at use". @returns milliseconds; undefined: as it was. */
export function renewedTo(session: Session, instance: number, now: number): number | undefined {
  const settings = SETTINGS[instance];
  if (!settings?.RESET_TOKEN_TTL_ON_USE) return undefined;
  const { OPAQUE_TOKEN_TTL, OVERWRITE_NONE_TTL } = settings;
  const isNone = session.expiresAt === Number.POSITIVE_INFINITY;
  if (isNone && (OPAQUE_TOKEN_TTL === null || !OVERWRITE_NONE_TTL)) return undefined;
  return OPAQUE_TOKEN_TTL === null ? Number.POSITIVE_INFINITY : now + OPAQUE_TOKEN_TTL * 1000;
}

export function opaqueIsGood({ sessions, gate, cutoff }: State, sessionId: string, now: Microseconds): boolean {
  const session = sessions.get(sessionId);
  return session !== undefined && session.createdAt > cutoff && door(gate) <= now;
}

/** The state once time has passed: what has outlived its TTL is gone. */
export function at(state: State, now: Microseconds): State {
  const live = [...state.sessions].filter(([, { expiresAt }]) => expiresAt > ms(now));
  const lapsed = new Set(state.lapsed);
  for (const id of state.sessions.keys()) lapsed.add(id);
  for (const [id] of live) lapsed.delete(id);
  return {
    ...state,
    sessions: new Map(live),
    lapsed,
  };
}

/** Whether an access token is to be refused. */
export const isDenied = (
  state: State,
  { sessionId, issuedAt }: { sessionId: string; issuedAt: Microseconds },
): boolean => issuedAt <= state.cutoff || issuedAt >= (state.denied.get(sessionId) ?? Number.POSITIVE_INFINITY);
