/**
 * Whether a Redis is the one that is known, or one from before that: emptied, restored from a copy, failed over to a replica that lagged (ADR 9).
 * Decided by what is known and what is seen, and nothing else.
 */
import type { Epoch, Microseconds } from './revoked.ts';
import { isBefore, millisecondsOf } from './stream-id.ts';

/** An entry of the log. */
export interface KnownEntry {
  id: string;
  /** The second until which it matters and stays in the log. */
  until: number;
}

/** No entry: no log is from before it. */
export const NONE: KnownEntry = { id: '0-0', until: 0 };

/** How far the log of an epoch had been read. */
export interface HighWater {
  epochId: string;
  position: string;
  /** The latest birth of an epoch that was known; 0: none. */
  born: Microseconds;
}

export interface Known {
  epoch: Epoch | undefined;
  /** Of that epoch's log: the last entry that was read, and the last that is known to be there, read or written. */
  read: KnownEntry;
  last: KnownEntry;
  /** What was noted before this process began. */
  highWater: HighWater | undefined;
}

/** What a Redis says of itself. */
export interface Seen {
  epoch: Epoch | undefined;
  /** The id of the last entry that was ever written to its log. */
  end: string;
  /** Whether the two known entries are in its log. */
  hasRead: boolean;
  hasLast: boolean;
}

/** Microseconds: no epoch born before that is believed. */
export const latestBirth = ({ epoch, highWater }: Pick<Known, 'epoch' | 'highWater'>): Microseconds =>
  Math.max(epoch?.born ?? 0, highWater?.born ?? 0);

/** By what was noted before this process began. */
function lacksNoted(highWater: HighWater | undefined, { id, born }: Epoch, end: string): KnownEntry | undefined {
  if (highWater === undefined) return undefined;
  const { epochId, position: noted } = highWater;
  if (id === epochId) return isBefore(end, noted) ? { id: noted, until: 0 } : undefined;
  // The mark of a release before has no birth. What was read of its epoch was written after it.
  return born < millisecondsOf(noted) * 1000 ? NONE : undefined;
}

/** Whether a log of the same epoch is from before this entry. */
function isLost({ id, until }: KnownEntry, isThere: boolean, end: string): boolean {
  const endsBeforeIt = isBefore(end, id);
  // Written to since, an older copy ends later and lacks it all the same; but so does a log that was trimmed of what no longer mattered.
  const goesOnWithoutIt = !isThere && millisecondsOf(end) < until * 1000;
  return endsBeforeIt || goesOnWithoutIt;
}

/**
 * @returns undefined of the Redis that is known, or one whose epoch followed; of any other the entry that shows it by its absence, or {@link NONE}:
 * it has no epoch, or one that was born too early.
 */
export function missing({ epoch, read, last, highWater }: Known, seen: Seen): KnownEntry | undefined {
  const { epoch: found, end } = seen;
  if (found === undefined || found.born < latestBirth({ epoch, highWater })) return NONE;
  const noted = lacksNoted(highWater, found, end);
  if (noted || found.id !== epoch?.id) return noted;
  if (isLost(read, seen.hasRead, end)) return read;
  return isLost(last, seen.hasLast, end) ? last : undefined;
}
