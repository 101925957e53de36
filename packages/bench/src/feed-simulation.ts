/**
 * How late verifiers on the revocation feed are, simulated: for more of them than a machine can run.
 *
 * An instance of auth-api has one event loop. When it hears of revocations it goes once round its listeners and writes each an event with all
 * it had heard by then; what it hears meanwhile waits for the next round (apps/auth-api/src/domain/revocation-feed.ts). A sign of life to all is
 * a round too. Instances do the same side by side, so one of them is simulated. Left out is what does not grow with listeners: Redis and the
 * network, a few milliseconds.
 */

export type Feed = {
  readonly verifiers: number;
  readonly instances: number;
  /** Revocations a second, at random instants (Poisson). */
  readonly rate: number;
  /** Seconds that are simulated. */
  readonly seconds: number;
  /** Microseconds of a core for an event to one listener (`feed_cpu` of the bench), and for each line in it beyond the first. */
  readonly eventCost: number;
  readonly lineCost: number;
  /** Milliseconds between signs of life. */
  readonly beat: number;
  /** Share of the core that other requests take. */
  readonly otherLoad: number;
  readonly seed: number;
};

export type Lateness = {
  /** Milliseconds from a revocation to a verifier's hearing of it. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** Share of the time in which rounds are under way. Near 1 the next one waits already; it falls behind only if lines take ever longer. */
  readonly busy: number;
};

/** Listeners of a round whose lateness is noted: it grows evenly along the round. */
const NOTED = 20;

export function simulateFeed(feed: Feed): Lateness {
  const { verifiers, instances, rate, seconds, eventCost, lineCost, beat, otherLoad, seed } = feed;
  const listeners = Math.ceil(verifiers / instances);
  const random = generator(seed);
  const nextAfter = (instant: number) => instant - (Math.log(1 - random()) / rate) * 1000;
  // What the core does for others in between makes everything take so much longer.
  const milliseconds = (microseconds: number) => microseconds / 1000 / (1 - otherLoad);
  const end = seconds * 1000;
  const late: number[] = [];
  let [now, working] = [0, 0];
  let nextBeat = beat;
  let arrival = nextAfter(0);
  let waiting: number[] = [];

  function round(lines: readonly number[]): void {
    const each = milliseconds(eventCost + lineCost * Math.max(0, lines.length - 1));
    for (const heard of lines)
      for (let noted = 1; noted <= NOTED; noted += 1)
        late.push(now - heard + Math.ceil((listeners * noted) / NOTED) * each);
    now += listeners * each;
    working += listeners * each;
  }

  while (now < end) {
    for (; arrival <= now; arrival = nextAfter(arrival)) waiting.push(arrival);
    if (waiting.length > 0) {
      const lines = waiting;
      waiting = [];
      round(lines);
    } else if (nextBeat <= now) round([]);
    else {
      now = Math.min(arrival, nextBeat);
      continue;
    }
    // Whoever was just told something needs no sign of life.
    nextBeat = now + beat;
  }
  late.sort((a, b) => a - b);
  const at = (share: number) => late[Math.ceil(share * late.length) - 1] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: at(1), busy: working / now };
}

/** Numbers from 0 to 1, the same ones for a seed: Marsaglia, Xorshift RNGs (2003), the triple (13, 17, 5). */
function generator(seed: number): () => number {
  let state = seed | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
