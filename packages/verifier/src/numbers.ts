/** Options that bound something. */

/**
 * @throws RangeError for one that is no number, or less than nothing. Not a number compares as false with everything, and so would let through
 *   what it should bound: `Number(process.env.MISSING)` as `maxTokenAge`, every expired token.
 */
export function assertNumbers(options: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(options))
    if (typeof value !== 'number' || !(value >= 0)) throw new RangeError(`${name} must be a number of at least 0`);
}
