/** What has to be forgotten some day. Every instance does it now and then; doing it twice changes nothing. */
import type { Logger } from 'pino';
import type { UserStore, WithdrawMails } from '../store/users.ts';

/** Milliseconds between two rounds. */
const INTERVAL = 60 * 60 * 1000;
/** Milliseconds until a round that failed is tried again: a service may start before its stores. */
const RETRY = 2000;

export interface HousekeepingOptions {
  users: UserStore;
  /** Rejects while the database can't be used as it is: then nothing is done in it. */
  allowed: () => Promise<void>;
  logger: Logger;
  withdrawMails: WithdrawMails;
  /** Seconds after which a registration nobody confirmed is forgotten. */
  unconfirmedAfter: number;
}

export function createHousekeeping({ users, allowed, logger, withdrawMails, unconfirmedAfter }: HousekeepingOptions) {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let failing = false;

  async function round(): Promise<void> {
    try {
      await allowed();
      const registrations = await users.forgetUnconfirmed(unconfirmedAfter, withdrawMails);
      if (registrations > 0) logger.info({ registrations }, 'forgot registrations nobody confirmed');
      failing = false;
    } catch (error) {
      if (!failing) logger.warn({ err: error }, 'housekeeping has to wait');
      failing = true;
    }
    if (!stopped) timer = setTimeout(round, failing ? RETRY : INTERVAL);
  }

  return {
    start: (): void => void round(),
    stop(): void {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
