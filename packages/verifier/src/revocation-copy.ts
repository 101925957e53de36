/**
 * A live copy of the revocation log, so that verifying asks nobody.
 *
 * The log is a Redis stream that holds all that can still matter: reading it from its start makes the copy, reading on keeps it, and
 * after a lost connection it goes on from the last entry it has seen: no gap. A copy that has heard nothing for `lagMax` is stale, and
 * who uses it must then refuse (fail closed).
 *
 * The epoch says which Redis this is: an instant of birth, made once. What was issued before it was issued by a Redis whose revocations
 * are lost, and is refused. A log that ends before what the copy has already read belongs to an older copy of Redis, restored or
 * failed over to: it is not believed until a new epoch has begun.
 */
import type { Redis } from 'ioredis';

/** Milliseconds one read waits for news: how often a quiet log still says that it is there. A quarter of the smallest useful `lagMax`. */
const BLOCK = 250;
/** Entries per read: enough to copy a million in a second, small enough to leave the event loop alone in between. */
const BATCH = 5000;
/** Milliseconds between two tries when Redis is away or no epoch has begun. */
const RETRY = 100;
/** Seconds an entry is kept after it stopped mattering, for clocks that are behind. */
const CLOCK_TOLERANCE = 60;

/** Microseconds since the epoch by the clock of Redis. */
type Microseconds = number;

/** Which Redis this is. */
export interface Epoch {
  id: string;
  born: Microseconds;
}

/** How far the log of an epoch had been read. */
export interface HighWater {
  epochId: string;
  position: string;
}

/** What an access token says of itself, and all that is needed to know whether it was revoked. */
export interface TokenIdentity {
  userId: string;
  sessionId: string;
  issuedAt: Microseconds;
}

/** One line of the log. `until`: the second from which nothing it speaks of can live any more. */
export type Revocation =
  /** Of this session, what was issued at `from` or later. */
  | { sessionId: string; from: Microseconds; until: number }
  /** Of this user, what was issued at `cutoff` or before. */
  | { userId: string; cutoff: Microseconds; until: number };

export interface RevocationCopyOptions {
  /** A connection of its own: it blocks. Commands may wait while Redis is away (`maxRetriesPerRequest: null`). */
  redis: Redis;
  /** The key of the stream. */
  stream: string;
  /** The key of the hash {id, born} that names the epoch. */
  epochKey: string;
  /** Milliseconds of silence after which the copy is stale. */
  lagMax: number;
  onError: (error: Error) => void;
  /**
   * Called when this Redis has no epoch, or is older than what was already read of it: whoever may write begins a new one. Without it the
   * copy waits, stale, until somebody else has.
   * @param known the epoch that is to end, if one was known.
   */
  onEpochLost?: (known: Epoch | undefined) => Promise<void>;
}

export type RevocationCopy = ReturnType<typeof createRevocationCopy>;

/** Stream ids in order: milliseconds, then a counter. */
function isBefore(a: string, b: string): boolean {
  const [aTime = 0, aCount = 0] = a.split('-').map(Number);
  const [bTime = 0, bCount = 0] = b.split('-').map(Number);
  return aTime === bTime ? aCount < bCount : aTime < bTime;
}

/** @returns undefined for a line this release does not understand: a newer one wrote it, for newer readers. */
function parse(fields: readonly string[]): Revocation | undefined {
  const line = new Map<string, string>();
  for (let index = 0; index + 1 < fields.length; index += 2) line.set(fields[index] ?? '', fields[index + 1] ?? '');
  const until = Number(line.get('until'));
  const [sessionId, userId] = [line.get('sid'), line.get('sub')];
  if (sessionId !== undefined) return { sessionId, from: Number(line.get('from') ?? 0), until };
  if (userId !== undefined) return { userId, cutoff: Number(line.get('cutoff')), until };
  return undefined;
}

export function createRevocationCopy(options: RevocationCopyOptions) {
  const { redis, stream, epochKey, lagMax, onError, onEpochLost } = options;
  const sessions = new Map<string, { from: Microseconds; until: number }>();
  const users = new Map<string, { cutoff: Microseconds; until: number }>();
  let epoch: Epoch | undefined;
  let position = '0-0';
  let highWater: HighWater | undefined;
  let complete = false;
  let heardAt = Number.NEGATIVE_INFINITY;
  let closed = false;

  function apply(revocation: Revocation): void {
    if ('sessionId' in revocation) {
      const { sessionId, from, until } = revocation;
      const known = sessions.get(sessionId);
      sessions.set(sessionId, { from: Math.min(from, known?.from ?? from), until: Math.max(until, known?.until ?? 0) });
      return;
    }
    const { userId, cutoff, until } = revocation;
    const known = users.get(userId);
    users.set(userId, { cutoff: Math.max(cutoff, known?.cutoff ?? 0), until: Math.max(until, known?.until ?? 0) });
  }

  /** Forgets what has expired; called when the log moves, which is when the copy grows. */
  function sweep(now: number): void {
    for (const [sessionId, { until }] of sessions) if (until < now) sessions.delete(sessionId);
    for (const [userId, { until }] of users) if (until < now) users.delete(userId);
  }

  async function epochOfRedis(): Promise<Epoch | undefined> {
    const [id, born] = await redis.hmget(epochKey, 'id', 'born');
    return id && born ? { id, born: Number(born) } : undefined;
  }

  /** What the last entry ever written to this log was; the log may have been trimmed to nothing. */
  async function endOfLog(): Promise<string> {
    try {
      const info = (await redis.xinfo('STREAM', stream)) as unknown[];
      return String(info[info.indexOf('last-generated-id') + 1]);
    } catch (error) {
      if (error instanceof Error && error.message.includes('no such key')) return '0-0';
      throw error;
    }
  }

  /** Whether this is a copy of Redis from before what was read of the same epoch. */
  async function isOlder(found: Epoch): Promise<boolean> {
    const read = found.id === epoch?.id ? position : '0-0';
    const readEarlier = found.id === highWater?.epochId ? highWater.position : '0-0';
    return isBefore(await endOfLog(), isBefore(read, readEarlier) ? readEarlier : read);
  }

  /** Follows the epoch. @returns whether the log that is there may be read on. */
  async function sameRedis(): Promise<boolean> {
    const found = await epochOfRedis();
    const rewound = found !== undefined && (await isOlder(found));
    if (found === undefined || rewound) {
      complete = false;
      await onEpochLost?.(epoch);
      return false;
    }
    if (found.id !== epoch?.id) {
      // Another Redis: its log is read from the start. What is known of the old one stays known, it can only refuse.
      epoch = found;
      position = '0-0';
      complete = false;
    }
    return true;
  }

  async function readOn(): Promise<void> {
    if (!(await sameRedis())) {
      await new Promise((resolve) => setTimeout(resolve, RETRY));
      return;
    }
    const asked = performance.now();
    const reply = await redis.xread('COUNT', BATCH, 'BLOCK', BLOCK, 'STREAMS', stream, position);
    const entries = reply?.[0]?.[1] ?? [];
    for (const [id, fields] of entries) {
      position = id;
      const revocation = parse(fields);
      if (revocation) apply(revocation);
    }
    // A short answer means the copy had caught up when the server answered, so it was fresh no earlier than when we asked.
    if (entries.length < BATCH) {
      complete = true;
      heardAt = asked + (entries.length === 0 ? BLOCK : 0);
    }
    if (entries.length > 0) sweep(Date.now() / 1000 - CLOCK_TOLERANCE);
  }

  async function follow(): Promise<void> {
    while (!closed) {
      try {
        await readOn();
      } catch (error) {
        if (closed) return;
        onError(error instanceof Error ? error : new Error(String(error)));
        await new Promise((resolve) => setTimeout(resolve, RETRY));
      }
    }
  }

  return {
    /**
     * Starts to copy; resolves at once.
     * @param known how far earlier copies had read: a log of the same epoch that ends before that is an older one.
     */
    start(known?: HighWater): void {
      highWater = known;
      void follow();
    },
    /** Ends the copy and its connection. What is being asked is not waited for: a command cut off by a closed connection may never be answered. */
    close(): void {
      closed = true;
      redis.disconnect();
    },
    /** Milliseconds since the copy was surely up to date; infinite until it is complete. */
    lag: (): number => (complete ? Math.max(0, performance.now() - heardAt) : Number.POSITIVE_INFINITY),
    /** Whether the copy may be believed; if not, refuse. */
    fresh: (): boolean => complete && performance.now() - heardAt <= lagMax,
    /** Whether an access token is to be refused. */
    denies({ userId, sessionId, issuedAt }: TokenIdentity): boolean {
      if (epoch === undefined || issuedAt < epoch.born) return true;
      const session = sessions.get(sessionId);
      if (session !== undefined && issuedAt >= session.from) return true;
      const user = users.get(userId);
      return user !== undefined && issuedAt <= user.cutoff;
    },
    /** Applies what this process has itself written to the log, before it answers. */
    apply,
    /** The epoch that is believed. */
    epoch: (): Epoch | undefined => epoch,
    /** How far it has read, for who keeps a high-water mark. */
    position: (): string => position,
    /** How many sessions and users it holds, for metrics. */
    size: (): number => sessions.size + users.size,
  };
}
