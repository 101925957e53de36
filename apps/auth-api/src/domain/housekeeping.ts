/** What has to be forgotten some day. Every instance does it now and then; doing it twice changes nothing. */
import type { Logger } from 'pino';
import type { UserStore } from '../store/users.ts';

/** Milliseconds between two rounds. */
const INTERVAL = 60 * 60 * 1000;

export interface HousekeepingOptions {
  users: UserStore;
  logger: Logger;
  /** Seconds after which a registration nobody confirmed is forgotten. */
  unconfirmedAfter: number;
}

export function createHousekeeping({ users, logger, unconfirmedAfter }: HousekeepingOptions) {
  let timer: NodeJS.Timeout | undefined;

  async function round(): Promise<void> {
    try {
      const registrations = await users.forgetUnconfirmed(unconfirmedAfter);
      if (registrations > 0) logger.info({ registrations }, 'forgot registrations nobody confirmed');
    } catch (error) {
      logger.warn({ err: error }, 'housekeeping has to wait');
    }
  }

  return {
    start(): void {
      void round();
      timer = setInterval(() => void round(), INTERVAL);
    },
    stop(): void {
      clearInterval(timer);
    },
  };
}
