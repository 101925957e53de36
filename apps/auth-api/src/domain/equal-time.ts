/** Answers that take as long for an address nobody has as for any other. */
import { setTimeout } from 'node:timers/promises';

/**
 * Milliseconds. Whatever the address, one transaction writes something and is flushed to disk; the floor lies above what one row or two more
 * cost.
 */
const FLOOR = 30;

/** @returns what the work resolves to, no sooner than {@link FLOOR} from now. */
export const inEqualTime = async <T>(work: Promise<T>): Promise<T> => (await Promise.all([work, setTimeout(FLOOR)]))[0];
