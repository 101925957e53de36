/**
 * Whether something that was sampled at even intervals stays as it is.
 *
 * The first half is left out: caches, pools and compiled code fill up there. Of the second half the trend is the median of the slopes
 * between all pairs of samples (Theil and Sen): a third of the samples may be anything and it stays. Noise has a slope too, so it counts
 * only if it is no chance: if the pairs rise so much more often than they fall (Mann and Kendall) as chance has it once in a hundred times.
 */

/** One-sided, of the normal distribution. */
const ONE_IN_A_HUNDRED = 2.326;

export type Growth = {
  /** Medians of the first and the last third of the second half. */
  readonly from: number;
  readonly to: number;
  /** By the trend, over the second half; 0 where that may be chance. */
  readonly growth: number;
};

const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
};

/** Fewer samples say nothing. */
export const FEWEST = 8;

/** @param samples of both halves. @throws RangeError for one that is no number: nothing can be said then. */
export function growthOf(samples: readonly number[]): Growth {
  if (!samples.every(Number.isFinite) || samples.length < FEWEST)
    throw new RangeError('too few samples, or one is no number');
  const late = samples.slice(Math.floor(samples.length / 2));
  const slopes = late.flatMap((value, at) => late.slice(at + 1).map((later, ahead) => (later - value) / (ahead + 1)));
  const rising = slopes.filter((slope) => slope > 0).length - slopes.filter((slope) => slope < 0).length;
  const n = late.length;
  const deviation = Math.sqrt((n * (n - 1) * (2 * n + 5)) / 18);
  const third = Math.max(1, Math.floor(n / 3));
  return {
    from: median(late.slice(0, third)),
    to: median(late.slice(-third)),
    growth: (rising - 1) / deviation > ONE_IN_A_HUNDRED ? median(slopes) * (n - 1) : 0,
  };
}

/**
 * @param share of what it was that it may grow by in the second half.
 * @param atLeast growth of so much is nothing, however small what grows is.
 */
export function isFlat({ from, growth }: Growth, share: number, atLeast: number): boolean {
  return growth <= Math.max(share * from, atLeast);
}
