/** What the users of a run hold, and what a command means given that. */
import { randomBytes, randomUUID } from 'node:crypto';
import { UNTIL_LIFTED } from '../../src/domain/instants.ts';
import type { Microseconds } from '../../src/store/sessions.ts';
import { type Command, SECOND } from './commands.ts';
import type { RefreshContent } from './state.ts';

interface AccessToken {
  sessionId: string;
  issuedAt: Microseconds;
}

/** Everything one user was ever given. */
export interface Holdings {
  id: string;
  sessionIds: string[];
  /** By what they are written as: the same successor given twice is one token. */
  refreshTokens: Map<string, RefreshContent>;
  /** Sessions of opaque tokens: a session is named by the hash of its token. */
  opaque: string[];
  accessTokens: AccessToken[];
  /** Generations read for a login that has yet to open its session. */
  prepared: string[];
}

export const newHoldings = (): Holdings => ({
  id: randomUUID(),
  sessionIds: [],
  refreshTokens: new Map(),
  opaque: [],
  accessTokens: [],
  prepared: [],
});

/** A command about to happen. */
export type Plan = { holder: Holdings; instance: number } & (
  | { kind: 'prepareLogin' }
  | { kind: 'login'; sessionId: string; format: 'jwt' | 'opaque'; prepared: string | undefined }
  | { kind: 'refresh'; token: string; content: RefreshContent }
  | { kind: 'useOpaque'; sessionId: string }
  | { kind: 'endOne'; sessionId: string }
  | { kind: 'endCurrent'; sessionId: string }
  | { kind: 'endOthers'; sessionId: string }
  | { kind: 'denyToken'; token: AccessToken }
  | { kind: 'endAll' }
  | { kind: 'lift' }
  | { kind: 'cutOffAt'; at: Microseconds }
  | { kind: 'cutOffAhead'; until: Date }
  | { kind: 'suspend'; until: Date }
);

/** Two of three times one of the latest few, else any. */
function chosen<T>(all: readonly T[], pick: number): T | undefined {
  if (all.length === 0) return undefined;
  return pick % 3 === 0 ? all[pick % all.length] : all[all.length - 1 - (pick % Math.min(all.length, 4))];
}

const SOME_SESSION = randomBytes(16).toString('base64url');

/** @param now by the clock of Redis. @returns undefined: the user holds nothing the command could be about. */
export function planned(command: Command, users: readonly Holdings[], now: Microseconds): Plan | undefined {
  const holder = users[command.user];
  if (holder === undefined) return undefined;
  const base = { holder, instance: command.instance };
  const { kind, pick } = command;
  const sessionOf = ({ sessionIds }: Holdings) => chosen(sessionIds, pick) ?? SOME_SESSION;
  /** A whole millisecond, as an API takes it. */
  const ahead = (seconds: number) => new Date(Math.floor((now + seconds * SECOND) / 1000));
  switch (kind) {
    case 'login': {
      const sessionId = randomBytes(16).toString('base64url');
      return { ...base, ...command, sessionId, prepared: command.prepared ? holder.prepared.pop() : undefined };
    }
    case 'refresh': {
      const found = chosen([...holder.refreshTokens], pick);
      return found && { ...base, kind, token: found[0], content: found[1] };
    }
    case 'useOpaque': {
      const sessionId = chosen(holder.opaque, pick);
      return sessionId === undefined ? undefined : { ...base, kind, sessionId };
    }
    case 'denyToken': {
      const token = chosen(holder.accessTokens, pick);
      return token && { ...base, kind, token };
    }
    case 'endOne': {
      const other = users.find((user) => user !== holder);
      return { ...base, kind, sessionId: sessionOf(command.foreign && other ? other : holder) };
    }
    case 'endCurrent':
    case 'endOthers':
      return { ...base, kind, sessionId: sessionOf(holder) };
    case 'cutOffAt': {
      const token = chosen(holder.accessTokens, pick);
      return token && { ...base, kind, at: token.issuedAt + command.after };
    }
    case 'cutOffAhead':
      return { ...base, kind, until: ahead(command.ahead) };
    case 'suspend':
      return { ...base, kind, until: command.ahead === null ? UNTIL_LIFTED : ahead(command.ahead) };
    default:
      return { ...base, kind };
  }
}
