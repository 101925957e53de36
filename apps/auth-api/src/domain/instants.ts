/** The end of time, as the stores say it. */
import type { Microseconds } from '../store/sessions.ts';

/** The latest instant Redis is told, in the year 2255: beyond 2^53 a double skips numbers, and what is issued after a cut-off is one more. */
export const LATEST: Microseconds = Number.MAX_SAFE_INTEGER - 1;

/** 9999-12-31T23:59:59Z: the end of a suspension until it is lifted, as PostgreSQL is told. */
export const UNTIL_LIFTED = new Date('9999-12-31T23:59:59Z');

/** Whether an instant, of either store, stands for "until lifted". One of the year 10000, which PostgreSQL's client can't read, does. */
export const isUntilLifted = (until: Date): boolean => !(until.getTime() < Math.floor(LATEST / 1000));
