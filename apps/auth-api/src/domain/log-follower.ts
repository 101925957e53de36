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
  /** Tells the other instances how long what this one issues lives (store/revocation-log.ts). */
  announceLife: () => Promise<void>;
  logger: Logger;
  /** Hears why a note could not be written; the next one is. */
  onError: (error: Error) => void;
}

export function createLogFollower({ copy, highWater, announceLife, logger, onError }: LogFollowerOptions) {
  let closed = false;
  let timer: NodeJS.Timeout | undefined;

  async function note(): Promise<void> {
    const epoch = copy.epoch();
    if (epoch) await highWater.raise({ epochId: epoch.id, born: epoch.born, position: copy.position() }).catch(onError);
  }

  /** A Redis that is away is reported by its connection, and heard of again with the next one. */
  const announce = (): Promise<void> => announceLife().catch(() => undefined);

  async function follow(): Promise<void> {
    try {
      // Before the copy, without which nothing is issued.
      const [known] = await Promise.all([highWater.read(), announceLife()]);
      if (closed) return;
      copy.start(known);
      timer = setInterval(() => Promise.all([note(), announce()]), INTERVAL);
    } catch (error) {
      logger.error({ err: error }, 'the revocation log can not be followed yet');
      if (!closed) timer = setTimeout(follow, INTERVAL);
    }
  }

  return {
    /** In the background: until PostgreSQL has said how far the log had been read, and Redis has been told of this instance, every token is refused. */
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
