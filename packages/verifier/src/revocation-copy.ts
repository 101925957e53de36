/**
 * A live copy of the revocation log, so that verifying asks nobody.
 *
 * The log is a Redis stream that holds all that can still matter: reading it from its start makes the copy, reading on keeps it, and
 * after a lost connection it goes on from the last entry it has seen: no gap. A copy that has heard nothing for `lagMax` is stale, and
 * its users must then refuse (fail closed).
 *
 * The epoch says which Redis this is: an instant of birth, made once. What was issued before it was issued by a Redis whose revocations
 * are lost, and is refused. A log that ends before what the copy has already read belongs to an older copy of Redis, restored or
 * failed over to, and so does an epoch that was born before the one that is known: it is not believed until a new epoch has begun. A
 * replica is never believed: how old its copy is nobody knows.
 */
import type { Cluster, Redis } from 'ioredis';
import { earlier, type Instant, later, NEVER, now, since } from './instant.ts';
import { readEntry } from './log-entry.ts';
import {
  type HighWater,
  type Known,
  type KnownEntry,
  latestBirth,
  missing,
  NONE,
  type Seen,
} from './redis-identity.ts';
import { createClockWatch, createCondition, createReport } from './report.ts';
import { createRevoked, type Epoch, type Revocation, type RevocationSource } from './revoked.ts';
import { isBefore, millisecondsOf } from './stream-id.ts';

export type { HighWater, KnownEntry } from './redis-identity.ts';
export type { Epoch, Revocation, TokenIdentity } from './revoked.ts';

/** Milliseconds one read waits for news at most: how often a quiet log still says that it is there. */
const LONGEST_BLOCK = 250;
/** Entries per read: few enough to leave the event loop alone in between. */
const BATCH = 2000;
/** Milliseconds between two tries when Redis is away or no epoch has begun. */
const RETRY = 100;
/** Milliseconds an answer may take on a connection that is there: many times what a read of BATCH entries does. */
const GIVE_UP = 5000;

export interface RevocationCopyOptions {
  /**
   * Makes a connection of the copy's own, for it blocks; another one when the last has lost a command. Commands may wait while Redis is away
   * (`maxRetriesPerRequest: null`).
   */
  connect: () => Redis | Cluster;
  /** The key of the stream. */
  stream: string;
  /** The key of the hash {id, born} that names the epoch; on Redis Cluster in the slot of the stream. */
  epochKey: string;
  /** Milliseconds of silence after which the copy is stale. */
  lagMax: number;
  onError: (error: Error) => void;
  /**
   * Called when this Redis has no epoch, or is older than what was already read of it: whoever may write begins a new one. Without it the
   * copy says so once, and waits, stale, until somebody else has.
   * @param found the epoch that is to end; undefined: there is none.
   * @param knownUntil milliseconds: when the last line that anybody is known to have read was written, or the last epoch was born.
   * @param last the entry that shows it by its absence; `0-0`: none does.
   * @returns false: where it would have begun another one has, or has lost nothing. That may be another Redis than the one that was looked at.
   */
  onEpochLost?: (found: Epoch | undefined, knownUntil: number, last: KnownEntry) => Promise<boolean>;
  /** Hears of each entry as it is read; without a revocation it is a line of a newer release. */
  onEntry?: (position: string, revocation: Revocation | undefined) => void;
}

export type RevocationCopy = ReturnType<typeof createRevocationCopy>;

/** Told of a connection that was lost, the second of one node of a cluster. */
const LOST = ['close', '-node'];

/** As the client reads it: what is not needed is not made a string. */
type Entry = readonly [id: Buffer, field: readonly [name: Buffer, text: Buffer]];

/** Entries that Redis was asked for. */
interface PendingRead {
  asked: Instant;
  /** How often Redis had been doubted by then. */
  doubts: number;
  /** Milliseconds for which it may wait for news. */
  waited: number;
  answer: Promise<Entry[]>;
}

/** Of a reply of names and values. */
const fieldOf = (reply: readonly unknown[], name: string): unknown =>
  reply.find((_, index) => index % 2 === 1 && reply[index - 1] === name);

/** A copy that follows the log once it is started; until it has all of it nothing is believed. */
export function createRevocationCopy(options: RevocationCopyOptions) {
  const { connect, stream, epochKey, lagMax, onError, onEpochLost, onEntry } = options;
  let redis = connect();
  /** Four silences fit into what is tolerated. */
  const block = Math.max(1, Math.min(LONGEST_BLOCK, Math.floor(lagMax / 4)));
  const report = createReport(onError);
  /** That an epoch has to begin, which nobody here may. */
  const mustBegin = createCondition(report);
  const compareClocks = createClockWatch(report);
  const revoked = createRevoked();
  /** The last entry that was read: where to read on. */
  let read = NONE;
  /** The last entry this process itself was told is written: it may have yet to read it. */
  let written = NONE;
  let highWater: HighWater | undefined;
  /** Whether all of the log was copied. One thing shows it: a short answer to a question asked right after a look at which Redis this is. */
  let complete = false;
  /** Whether this is the Redis whose log was copied; and how often that was doubted. */
  let recognised = false;
  let doubts = 0;
  let heardAt = NEVER;
  /** What went wrong since then. */
  let failure: Error | undefined;
  let closed = false;
  /** While the log is copied, the next part of it: asked for before it is needed, and without a look at which Redis this is. */
  let ahead: PendingRead | undefined;
  /** Those who wait until the copy has got so far. */
  const awaiting = new Set<{ id: string; arrive: () => void }>();

  const isFresh = (): boolean => complete && since(heardAt) <= lagMax;

  /** What is known by now of the Redis that was followed. */
  const known = (): Known => ({
    epoch: revoked.epoch(),
    read,
    last: isBefore(read.id, written.id) ? written : read,
    highWater,
  });

  /** @throws Error, the first that a pipeline was answered. That the log was trimmed to nothing, or not begun, is none. */
  function throwErrors(replies: readonly (readonly [error: Error | null, reply: unknown])[]): void {
    const error = replies.find(([error]) => error && !error.message.includes('no such key'))?.[0];
    if (!error) return;
    // ioredis follows the redirection of a pipeline only if what was not redirected is flagged as reading, and ROLE is not: it would ask the same
    // node for ever. (Without a view of the cluster another connection would lead there too.)
    if (redis.isCluster && error.message.startsWith('MOVED ')) replace();
    throw error;
  }

  /** What tells one Redis from another, in one round trip. The caller compares it with what was known when it asked. */
  async function look({ read, last }: Known): Promise<Seen> {
    const replies =
      (await answer(
        redis
          .pipeline()
          .hmget(epochKey, 'id', 'born')
          .xrange(stream, read.id, read.id)
          .xrange(stream, last.id, last.id)
          // After them: what takes an entry away has written another one.
          .xinfo('STREAM', stream)
          .role()
          .time()
          .exec(),
      )) ?? [];
    throwErrors(replies);
    const [hash = [], ofRead = [], ofLast = [], info = [], role = [], time = []] = replies.map(([error, value]) =>
      error ? [] : (value as unknown[]),
    );
    if (role[0] !== 'master') {
      // Behind its address may be the new master by now; a connection that only reads is never told READONLY, and would stay here.
      reconnect();
      throw new Error('this Redis is a replica: what it says may be old');
    }
    compareClocks(Number(time[0]) * 1000);
    const [id, born] = hash as (string | null)[];
    return {
      epoch: id && born ? { id, born: Number(born) } : undefined,
      end: String(fieldOf(info, 'last-generated-id') ?? NONE.id),
      hasRead: ofRead.length > 0,
      hasLast: ofLast.length > 0,
    };
  }

  /** @param lacking what this Redis lacks. @throws Error when another one, behind the same name, does not. */
  async function loseEpoch(found: Epoch | undefined, lacking: KnownEntry): Promise<void> {
    complete = false;
    recognised = false;
    const { last, ...of } = known();
    const heard = Math.max(millisecondsOf(last.id), millisecondsOf(highWater?.position ?? NONE.id));
    const knownUntil = Math.max(heard, Math.floor(latestBirth(of) / 1000));
    if (!onEpochLost) {
      const what = found ? 'this Redis is older than what was read of it' : `there is no epoch at ${epochKey}`;
      failure = new Error(what);
      mustBegin(failure);
      return;
    }
    if (await onEpochLost(found, knownUntil, lacking)) return;
    // The Redis that was to begin one has another, or all of this one: it may be where this connection should lead.
    reconnect();
    throw new Error('this Redis is older than another one of its name');
  }

  /** Follows the epoch. @returns whether the log that is there may be read on. */
  async function sameRedis(): Promise<boolean> {
    const doubtsBefore = doubts;
    const before = known();
    const seen = await look(before);
    const { epoch: found } = seen;
    const lacks = missing(before, seen);
    if (found === undefined || lacks) {
      await loseEpoch(found, lacks ?? NONE);
      return false;
    }
    mustBegin(undefined);
    const another = found.id !== before.epoch?.id;
    if (another) {
      revoked.begin(found);
      written = NONE;
    }
    // Another Redis, or, after a silence, a log trimmed past what was read: from the start. (With the trimmed one reading on would do: what is
    // trimmed matters no more.)
    if (another || (read.id !== NONE.id && !seen.hasRead && !isFresh())) {
      read = NONE;
      complete = false;
    }
    if (doubts === doubtsBefore) recognised = true;
    return true;
  }

  /** @returns until when the entry matters. */
  function takeOne(id: string, revocation: Revocation | undefined): number {
    if (revocation) revoked.apply(revocation);
    onEntry?.(id, revocation);
    return revocation?.until ?? 0;
  }

  function take(entries: readonly Entry[]): void {
    let { until } = read;
    for (const [id, [name, text]] of entries)
      until =
        (onEntry ? undefined : revoked.applyBytes(name, text)) ??
        takeOne(String(id), readEntry(String(name), String(text)));
    read = { id: String(entries.at(-1)?.[0] ?? read.id), until };
    for (const one of awaiting) if (!isBefore(read.id, one.id)) one.arrive();
  }

  /** Asks for the entries after `from`. They are waited for, but not while everything is refused until the log is copied. */
  function ask(from: string): PendingRead {
    const waited = complete ? block : 0;
    const reply = complete
      ? redis.xreadBuffer('COUNT', BATCH, 'BLOCK', waited, 'STREAMS', stream, from)
      : redis.xreadBuffer('COUNT', BATCH, 'STREAMS', stream, from);
    const answer = reply.then((streams) => (streams?.[0]?.[1] ?? []) as unknown as Entry[]);
    // A failure is heard where it is awaited.
    answer.catch(() => undefined);
    return { asked: now(), doubts, waited, answer };
  }

  async function readOn(): Promise<void> {
    const looked = ahead === undefined;
    const pending = ahead ?? ask(read.id);
    ahead = undefined;
    const entries = await answer(pending.answer);
    // The client asks again after a lost connection, and the answer may be that of another Redis.
    if (doubts !== pending.doubts) return;
    const [last, { length }] = [entries.at(-1), entries];
    // Redis finds the next ones while these are taken.
    if (!complete && last && length === BATCH) ahead = ask(String(last[0]));
    take(entries);
    // The client's command holds its answer, and V8 may place commands with the old: dead ones then keep all that was read alive until a full
    // collection, and the young generation grows to its most (a million entries: 220 MB of the process instead of 85, 1.7 s instead of 1.3).
    entries.length = 0;
    if (length < BATCH && looked) {
      complete = true;
      failure = undefined;
      // The copy had caught up when Redis answered, so no earlier than it was asked. It may have waited a little less than it was told to.
      heardAt = last ? pending.asked : earlier(later(pending.asked, pending.waited), now());
    }
    // The clock of Redis stands in each entry's id. What the log still holds while it is copied still matters.
    if (complete && length > 0) revoked.sweep(millisecondsOf(read.id) / 1000, length);
  }

  /**
   * Waits for what Redis was asked. A client may lose a command for good, and with it the copy, which asks one thing after the other (ioredis'
   * Cluster does with what it is asked between two views of the cluster): a caller that waits in vain on a connection that is there gets another one.
   */
  async function answer<T>(asked: Promise<T>): Promise<T> {
    const { promise: inVain, reject } = Promise.withResolvers<never>();
    const watch = setInterval(() => {
      if (closed) clearInterval(watch);
      if (closed || redis.status !== 'ready') return;
      replace();
      reject(new Error('an answer did not come: another connection is made'));
    }, GIVE_UP);
    // What is asked while Redis is away is not answered after the copy was closed either, and must not keep the process.
    watch.unref();
    try {
      return await Promise.race([asked, inVain]);
    } finally {
      clearInterval(watch);
    }
  }

  function replace(): void {
    const lost = redis;
    for (const event of LOST) lost.off(event, doubt);
    redis = connect();
    listen(redis);
    doubt();
    lost.disconnect();
  }

  function listen(client: Redis | Cluster): void {
    for (const event of LOST) client.on(event, doubt);
    client.on('end', () => goOn(client));
  }

  async function follow(): Promise<void> {
    listen(redis);
    while (!closed) {
      try {
        if (ahead !== undefined || (await sameRedis())) await readOn();
        else await new Promise((resolve) => setTimeout(resolve, RETRY));
      } catch (error) {
        if (closed) return;
        failure = error instanceof Error ? error : new Error(String(error));
        report(failure);
        await new Promise((resolve) => setTimeout(resolve, RETRY));
      }
    }
  }

  /** Only of a connection that is there: ioredis' Cluster, cut off while it looks for its nodes, would never look again, and tell nobody. */
  function reconnect(): void {
    if (redis.status === 'ready') redis.disconnect(true);
  }

  /** A client may give up for good: ioredis does if it hears of a failover just while it asks Sentinel for the master. */
  function goOn(client: Redis | Cluster): void {
    setTimeout(() => {
      // It tells of a connection that fails with the event as well.
      if (!closed && client === redis) client.connect().catch(() => undefined);
    }, RETRY);
  }

  function doubt(): void {
    doubts += 1;
    recognised = false;
  }

  return {
    /**
     * To be called when another connection to this Redis was made anew: behind it may be an older copy. The copy of the log stays good, what
     * it refuses was revoked; but nobody may ask the store until {@link knowsRedis} says again that it is the one that was.
     */
    doubt,
    /** Whether the copy may be believed and Redis is the one it was made of: what a caller that asks Redis itself about a token has to know. */
    knowsRedis: (): boolean => recognised && isFresh(),
    /**
     * Starts to copy; resolves at once.
     * @param known how far earlier copies had read: a log of the same epoch that ends before that is an older one, as is an earlier epoch.
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
    lag: (): number => (complete ? since(heardAt) : Number.POSITIVE_INFINITY),
    /** Whether the copy may be believed; if not, refuse. */
    fresh: isFresh,
    denies: revoked.denies,
    changes: revoked.changes,
    failure: () => failure,
    /** Whether whatever this key has signed is to be refused. */
    deniesKey: revoked.deniesKey,
    /**
     * Applies what this process has itself written to the log, before it answers.
     * @param entry where it stands: a log of that epoch without it is from before it was written, and must not be believed.
     */
    apply(revocation: Revocation, { id, epoch }: { id: string; epoch: Epoch }): void {
      revoked.apply(revocation);
      if (epoch.id === revoked.epoch()?.id && isBefore(written.id, id)) written = { id, until: revocation.until };
    },
    /** The epoch that is believed. */
    epoch: revoked.epoch,
    /** How far it has read, for callers that keep a high-water mark. */
    position: (): string => read.id,
    /**
     * Resolves once the entry with this id has been read, or a later one: what Redis itself would say is known then.
     * @param within milliseconds
     * @throws Error when it was not by then.
     */
    reaches(id: string, within: number): Promise<void> {
      if (!isBefore(read.id, id)) return Promise.resolve();
      return new Promise((resolve, reject) => {
        const one = { id, arrive: () => settle(resolve) };
        const timer = setTimeout(() => settle(() => reject(new Error('the copy of the log is behind'))), within);
        const settle = (how: () => void): void => {
          clearTimeout(timer);
          awaiting.delete(one);
          how();
        };
        awaiting.add(one);
      });
    },
    /** How much it holds, for metrics. */
    size: revoked.size,
    /** All it holds, for callers that copy the copy. */
    lines: revoked.lines,
  } satisfies RevocationSource & Record<string, unknown>;
}
