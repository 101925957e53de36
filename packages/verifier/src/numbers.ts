/** Options that bound something. */

/** Milliseconds, an hour: a copy of the revocations that was believed for longer would be believed for as long as tokens live, or longer. */
export const LONGEST_SILENCE = 3_600_000;

/**
 * @param most what would bound nothing any more, or be too much for a timer, is more.
 * @throws RangeError for one that is no number, less than nothing, or more than that. Not a number compares as false with everything, and so would let through
 *   what it should bound: `Number(process.env.MISSING)` as `maxTokenAge`, every expired token.
 */
export function assertNumbers(options: Readonly<Record<string, number>>, most = Number.POSITIVE_INFINITY): void {
  for (const [name, value] of Object.entries(options))
    if (typeof value !== 'number' || !(value >= 0 && value <= most))
      throw new RangeError(
        `${name} must be a number of at least 0${most < Number.POSITIVE_INFINITY ? ` and at most ${most}` : ''}`,
      );
}
