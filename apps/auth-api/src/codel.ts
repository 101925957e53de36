/**
 * CoDel for the queue of a server: a burst may wait until it is worked off, but a queue that is always long is only delay. So once its heads have
 * waited longer than `target` for a whole `interval`, waiting longer than `target` is too long, until the queue has been short for an `interval`.
 * (Nichols and Jacobson, "Controlling Queue Delay", 2012; with these two bounds in Maurer, "Fail at Scale", 2015.)
 */

/** Milliseconds. */
export interface CoDelBounds {
  /** How long the head of the queue may have waited. */
  interval: number;
  /** The same once heads were seen to wait longer than this for a whole interval. */
  target: number;
}

/** @returns to be called at each arrival with the head's own, if there is a head, and now, by one clock: whether the head has waited too long. */
export function createCoDel({ interval, target }: CoDelBounds) {
  /** When the first head that waited longer than `target` arrived, and when one was last seen. */
  let since = 0;
  let seen = Number.NEGATIVE_INFINITY;
  return (arrived: number | undefined, now: number): boolean => {
    if (arrived === undefined || now - arrived <= target) return false;
    if (now - seen > interval) since = arrived;
    seen = now;
    return now - since > interval;
  };
}
