/**
 * Starts the copy of the revocation log from what is known of it, and keeps known how far it was read: so a service that starts later can
 * tell an older copy of Redis from the one that was there (ADR 9).
 */
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import type { Logger } from 'pino';
import type { HighWaterStore } from '../store/high-water.ts';

/** Milliseconds between two notes, and between two tries to read the last one. */
const INTERVAL = 1000;

export interface LogFollowerOptions {
  copy: RevocationCopy;
  highWater: HighWaterStore;
  logger: Logger;
  /** Hears why a note could not be written; the next one is. */
  onError: (error: Error) => void;
}

export function createLogFollower({ copy, highWater, logger, onError }: LogFollowerOptions) {
  let closed = false;
  let timer: NodeJS.Timeout | undefined;

  async function note(): Promise<void> {
    const epoch = copy.epoch();
    if (epoch) await highWater.raise({ epochId: epoch.id, born: epoch.born, position: copy.position() }).catch(onError);
  }

  async function follow(): Promise<void> {
    try {
      const known = await highWater.read();
      if (closed) return;
      copy.start(known);
      timer = setInterval(note, INTERVAL);
    } catch (error) {
      logger.error({ err: error }, 'how far the revocation log was read is not known yet');
      if (!closed) timer = setTimeout(follow, INTERVAL);
    }
  }

  return {
    /** In the background: until PostgreSQL has said how far the log had been read, every token is refused. */
    start: (): void => void follow(),

    /** Notes where it ends, and ends the copy. */
    async close(): Promise<void> {
      closed = true;
      clearTimeout(timer);
      await note();
      copy.close();
    },
  };
}
