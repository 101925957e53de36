/**
 * A live copy of the revocation log, so that verifying asks nobody.
 *
 * The log is a Redis stream that holds all that can still matter: reading it from its start makes the copy, reading on keeps it, and
 * after a lost connection it goes on from the last entry it has seen: no gap. A copy that has heard nothing for `lagMax` is stale, and
 * who uses it must then refuse (fail closed).
 */
import type { Redis } from 'ioredis';

/** Milliseconds one read waits for news at most: how often a quiet log still says that it is there. */
const LONGEST_BLOCK = 250;
/** Entries per read: enough to copy a million in a second, small enough to leave the event loop alone in between. */
const BATCH = 5000;
/** Milliseconds between two tries when Redis is away. */
const RETRY = 100;

export interface RevocationCopyOptions {
  /** A connection of its own: it blocks. Commands may wait while Redis is away (`maxRetriesPerRequest: null`). */
  redis: Redis;
  /** The key of the stream. */
  stream: string;
  /** Milliseconds of silence after which the copy is stale. */
  lagMax: number;
  onError: (error: Error) => void;
}

export type RevocationCopy = ReturnType<typeof createRevocationCopy>;

export function createRevocationCopy({ redis, stream, lagMax, onError }: RevocationCopyOptions) {
  /** Four silences fit into what is tolerated. */
  const block = Math.max(1, Math.min(LONGEST_BLOCK, Math.floor(lagMax / 4)));
  /** Session id → the second from which nothing of it can live any more. */
  const sessions = new Map<string, number>();
  let position = '0-0';
  let complete = false;
  let heardAt = Number.NEGATIVE_INFINITY;
  let closed = false;

  function deny(sessionId: string, until: number): void {
    sessions.set(sessionId, Math.max(until, sessions.get(sessionId) ?? 0));
  }

  /** Forgets what has expired; called when the log moves, which is when the copy grows. */
  function sweep(nowSeconds: number): void {
    for (const [sessionId, until] of sessions) if (until < nowSeconds) sessions.delete(sessionId);
  }

  async function readOn(): Promise<void> {
    const asked = performance.now();
    const reply = await redis.xread('COUNT', BATCH, 'BLOCK', block, 'STREAMS', stream, position);
    const entries = reply?.[0]?.[1] ?? [];
    for (const [id, fields] of entries) {
      position = id;
      const at = fields.indexOf('sid');
      const until = fields.indexOf('until');
      const sessionId = fields[at + 1];
      if (at >= 0 && until >= 0 && sessionId !== undefined) deny(sessionId, Number(fields[until + 1]));
    }
    // A short answer means the copy had caught up when the server answered, so it was fresh no earlier than when we asked.
    if (entries.length < BATCH) {
      complete = true;
      heardAt = asked + (entries.length === 0 ? block : 0);
    }
    // By the clock of Redis, which stands in each entry's id: a step of this host's clock must not make a revoked token good again.
    if (entries.length > 0) sweep(Number(position.split('-', 1)[0]) / 1000);
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
    /** Starts to copy; resolves at once. */
    start(): void {
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
    /** Whether access tokens of this session are to be refused. */
    denies: (sessionId: string): boolean => sessions.has(sessionId),
    /** Applies what this process has itself written to the log, before it answers. @param until seconds */
    deny,
    /** How many sessions it holds, for metrics. */
    size: (): number => sessions.size,
  };
}
