/** How long the first of a queue may have waited when one more comes. */

export interface QueuePatience {
  /** Milliseconds. */
  burst: number;
  /** Milliseconds, where the first was seen to wait for longer than this for as long as a burst may. */
  standing: number;
}

/**
 * A burst may wait until it is worked off. A queue that is always long is none: it will be as long for as long as too much comes, to nobody's use, and
 * longest when that ends. So then less is enough, until it was short for as long as a burst may wait (Nichols and Jacobson, "Controlling Queue Delay",
 * 2012; with these two bounds in Maurer, "Fail at Scale", 2015).
 * @returns to be asked whenever somebody comes: whether the first, who came at `first`, has waited for too long. Milliseconds of one clock.
 */
export function createQueuePatience({ burst, standing }: QueuePatience) {
  /** It has been long since then, and when that was seen last. */
  let since = 0;
  let seen = Number.NEGATIVE_INFINITY;
  return (first: number | undefined, now: number): boolean => {
    if (first === undefined || now - first <= standing) return false;
    if (now - seen > burst) since = first;
    seen = now;
    return now - since > burst;
  };
}
