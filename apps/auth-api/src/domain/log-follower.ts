/**
 * Starts the copy of the revocation log from what is known of it, and keeps known how far it was read: so a service that starts later can
 * tell an older copy of Redis from the one that was there (ADR 9).
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import type { Logger } from 'pino';
import type { HighWaterStore } from '../store/high-water.ts';

/** Milliseconds between two notes, and between two tries to read the last one. */
const INTERVAL = 1000;
/** Milliseconds between two tries to tell Redis of this instance: its connection may yet have to be made. */
const RETRY = 50;

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

  async function firstAnnounce(): Promise<void> {
    for (let tries = 1; !closed; tries += 1) {
      try {
        return await announceLife();
      } catch (error) {
        if ((tries * RETRY) % INTERVAL === 0)
          logger.error({ err: error }, 'Redis cannot be told of this instance, which issues and verifies nothing yet');
        await wait(RETRY, undefined, { ref: false });
      }
    }
  }

  async function follow(): Promise<void> {
    try {
      const known = await highWater.read();
      // Before the copy, without which nothing is issued.
      await firstAnnounce();
      if (closed) return;
      copy.start(known);
      timer = setInterval(() => Promise.all([note(), announce()]), INTERVAL);
    } catch (error) {
      logger.error({ err: error }, 'how far the revocation log was read is not known yet');
      if (!closed) timer = setTimeout(follow, INTERVAL);
    }
  }

  return {
    /**
     * In the background. Every token is refused until PostgreSQL has said how far the log had been read, and Redis has been told of this
     * instance (or takes no writes).
     */
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
