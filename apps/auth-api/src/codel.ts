/**
 * CoDel for the queue of a server: a burst may wait until it is worked off, but a queue that is always long is none. It will be as long for as
 * long as too much comes, to nobody's use, and longest when that ends. So then less is enough, until it was short for as long as a burst may wait.
 * (Nichols and Jacobson, "Controlling Queue Delay", 2012; with these two bounds in Maurer, "Fail at Scale", 2015.)
 */

/** Milliseconds. */
export interface CoDelBounds {
  /** How long the first may have waited. */
  interval: number;
  /** The same where the first was seen to wait for longer than this for a whole interval. */
  target: number;
}

/** @returns to be asked whenever somebody comes: whether the first, who came at `first`, has waited for too long. Milliseconds of one clock. */
export function createCoDel({ interval, target }: CoDelBounds) {
  /** The first has waited for more than the target since then, and when that was seen last. */
  let since = 0;
  let seen = Number.NEGATIVE_INFINITY;
  return (first: number | undefined, now: number): boolean => {
    if (first === undefined || now - first <= target) return false;
    if (now - seen > interval) since = first;
    seen = now;
    return now - since > interval;
  };
}
