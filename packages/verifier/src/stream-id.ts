/** Ids of a Redis stream: the milliseconds at which an entry was written, by the clock of Redis, and a counter. */

/** When the entry with this id was written. */
export const millisecondsOf = (id: string): number => Number(id.split('-', 1)[0]);

/** In the order of the stream. */
export function isBefore(a: string, b: string): boolean {
  const [aTime = 0, aCount = 0] = a.split('-').map(Number);
  const [bTime = 0, bCount = 0] = b.split('-').map(Number);
  return aTime === bTime ? aCount < bCount : aTime < bTime;
}
