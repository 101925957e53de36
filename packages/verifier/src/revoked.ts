/** What is known to be revoked, whoever told it: the one place that decides whether a token is refused. */

import { BASE64URL, UUID } from './id-spelling.ts';
import { createIdTable } from './id-table.ts';
import { takeBytes } from './log-entry.ts';

/** Microseconds since the epoch by the clock of the issuer's Redis. */
export type Microseconds = number;

/** Which Redis the revocations are of. What was issued before its birth is refused: the revocations of that time are lost. */
export interface Epoch {
  id: string;
  born: Microseconds;
}

/** What an access token says of itself, and all that is needed to know whether it was revoked. */
export interface TokenIdentity {
  userId: string;
  sessionId: string;
  issuedAt: Microseconds;
  /** The `kid` of the key that signed it. */
  keyId?: string | undefined;
}

/** One line of the log. `until`: the second from which nothing it speaks of can live any more. */
export type Revocation =
  /** Of this session, which is this user's, what was issued at `from` or later. */
  | { sessionId: string; from: Microseconds; until: number; user?: string }
  /** Of this user, what was issued at `cutoff` or before. */
  | { userId: string; cutoff: Microseconds; until: number }
  /** Whatever this key has signed. */
  | { keyId: string; until: number };

/** Slots looked at each time the log moves: all of a small copy; of a big one so many that it never pauses. */
const STRIDE = 1000;

export type Revoked = ReturnType<typeof createRevoked>;

/** Nothing yet, and no epoch: until one begins every token is refused. */
export function createRevoked() {
  let epoch: Epoch | undefined;
  let changes = 0;
  const sessions = createIdTable(BASE64URL, (from, issuedAt) => from === 0 || issuedAt >= from);
  const users = createIdTable(UUID, (cutoff, issuedAt) => issuedAt <= cutoff);
  // Whatever a key has signed is refused, whenever that was.
  const keys = createIdTable(BASE64URL, () => true);
  const tables = [sessions, users, keys];

  return {
    epoch: (): Epoch | undefined => epoch,
    /** What is known of the epoch before stays known: it can only refuse. So does what its birth refuses, whoever tells of an older one. */
    begin({ id, born }: Epoch): void {
      changes += 1;
      epoch = { id, born: Math.max(born, epoch?.born ?? 0) };
    },

    apply(revocation: Revocation): void {
      changes += 1;
      const { until } = revocation;
      if ('keyId' in revocation) keys.add(revocation.keyId, until, 0);
      else if ('userId' in revocation) users.add(revocation.userId, until, revocation.cutoff);
      else sessions.add(revocation.sessionId, until, revocation.from);
    },

    /**
     * The same of an entry of the log (log-entry.ts), if it is a session or a user of ours: nearly all are, and a million are read without a
     * string made.
     * @returns its `until`; undefined for any other entry, which is not applied.
     */
    applyBytes(name: Uint8Array, text: Uint8Array): number | undefined {
      const until = takeBytes(name, text, sessions.addBytes, users.addBytes);
      if (until !== undefined) changes += 1;
      return until;
    },

    /** How often what is refused has changed so as to be more. */
    changes: (): number => changes,

    /** Whether an access token is to be refused. */
    denies({ userId, sessionId, issuedAt, keyId }: TokenIdentity): boolean {
      if (epoch === undefined || issuedAt < epoch.born) return true;
      if (sessions.has(sessionId, issuedAt) || users.has(userId, issuedAt)) return true;
      return keyId !== undefined && keys.has(keyId, issuedAt);
    },

    /** Whether whatever this key has signed is to be refused. */
    deniesKey: (keyId: string): boolean => keys.has(keyId, 0),

    /**
     * Forgets what has expired, a part at a time.
     * @param redisNow second, by the clock of Redis. What both that one and this host's say is over is forgotten: a step of neither must make a
     * revoked token good again. A host whose clock stands in the past forgets nothing: for that long it takes dead tokens for good.
     * @param added how many lines came: more are looked at than that, so that it never falls behind.
     */
    sweep(redisNow: number, added: number): void {
      const now = Math.min(redisNow, Date.now() / 1000);
      // Up to four slots an id.
      for (const table of tables) table.sweep(now, STRIDE + 8 * added);
    },

    /** How many sessions, users and keys it holds. */
    size: (): number => tables.reduce((sum, table) => sum + table.size(), 0),

    /** All it knows, as lines that make another copy of it; what changes meanwhile may be among them or not. */
    *lines(): Generator<Revocation> {
      for (const [keyId, until] of keys.entries()) yield { keyId, until };
      for (const [userId, until, cutoff] of users.entries()) yield { userId, cutoff, until };
      for (const [sessionId, until, from] of sessions.entries()) yield { sessionId, from, until };
    },
  };
}

/**
 * A line as the feed tells it, by name: `sid`, `from`, `until` | `sub`, `cutoff`, `until` | `kid`, `until`.
 * @returns undefined for a line this release does not understand: a newer one wrote it, for newer readers.
 */
export function readLine(line: { readonly [name: string]: string | number | undefined }): Revocation | undefined {
  const { sid, sub, kid } = line;
  const [until, from, cutoff] = [Number(line.until), Number(line.from ?? 0), Number(line.cutoff ?? 0)];
  // Not a number compares as false: what is known to be revoked must not be forgotten because of it.
  if ([until, from, cutoff].some(Number.isNaN)) return undefined;
  if (typeof sid === 'string') return { sessionId: sid, from, until };
  if (typeof sub === 'string') return { userId: sub, cutoff, until };
  if (typeof kid === 'string') return { keyId: kid, until };
  return undefined;
}

/** The same the other way. */
export function writeLine(revocation: Revocation): { readonly [name: string]: string | number } {
  const { until } = revocation;
  if ('keyId' in revocation) return { kid: revocation.keyId, until };
  if ('userId' in revocation) return { sub: revocation.userId, cutoff: revocation.cutoff, until };
  return { sid: revocation.sessionId, from: revocation.from, until };
}

/** What a verifier knows of the revocations, wherever it hears of them. */
export interface Revocations {
  /** Whether the copy may be believed; if not, refuse. */
  fresh(): boolean;
  /** Milliseconds since the copy was surely up to date; infinite until it is complete. */
  lag(): number;
  denies(identity: TokenIdentity): boolean;
  /** A number that changes when {@link denies} may refuse what it did not before. Without it each token is asked about each time. */
  changes?(): number;
  /** What went wrong since they were last heard of, if that is known: the `cause` of what is refused because of it. */
  failure?(): unknown;
  close(): void;
}

/** The same from the issuer, by its feed or its Redis. */
export interface RevocationSource extends Revocations {
  /** Which Redis they are of; undefined until it is known. */
  epoch(): Epoch | undefined;
  /** How many sessions, users and keys it holds, for metrics. */
  size(): number;
}
