import { setTimeout as delay } from 'node:timers/promises';

const PATIENCE_MS = 30_000;
const PAUSE_MS = 25;

/**
 * Resolves once it is so: what servers agree on among themselves, for which none of them tells us.
 *
 * @param what we wait for, for the message.
 * @throws {Error} when it has not come within half a minute.
 */
export async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await delay(PAUSE_MS);
  }
}
