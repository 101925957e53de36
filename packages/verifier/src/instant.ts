/**
 * How long ago something was, by two clocks of this host: the steady one stands still while the machine sleeps or is paused, the other one may be
 * set. The longer of both times counts. So a clock that is set forward costs a refusal until news has come, and one that is set back gives nothing.
 */

/** Milliseconds, by each. */
export interface Instant {
  readonly steady: number;
  readonly wall: number;
}

export const NEVER: Instant = { steady: Number.NEGATIVE_INFINITY, wall: Number.NEGATIVE_INFINITY };

export const now = (): Instant => ({ steady: performance.now(), wall: Date.now() });

export const later = ({ steady, wall }: Instant, milliseconds: number): Instant => ({
  steady: steady + milliseconds,
  wall: wall + milliseconds,
});

/** @returns milliseconds, 0 at least. */
export const since = ({ steady, wall }: Instant): number => Math.max(0, performance.now() - steady, Date.now() - wall);

export const earlier = (a: Instant, b: Instant): Instant => ({
  steady: Math.min(a.steady, b.steady),
  wall: Math.min(a.wall, b.wall),
});
