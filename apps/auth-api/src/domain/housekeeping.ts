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
  let running: Promise<void> | undefined;
  let stopped = false;
  let failing = false;

  /** @returns how many of them are forgotten. */
  async function forget(ids: readonly string[]): Promise<number> {
    for (const id of ids) while (!stopped && (await users.forgetEvents(id)));
    return stopped ? 0 : users.forgetUnconfirmed(ids, withdrawMails);
  }

  /** In parts, each committed: however many there are, and however much was recorded of one of them, the next part finds less. */
  async function forgetUnconfirmed(): Promise<void> {
    let registrations = 0;
    let ids: string[];
    do {
      await allowed();
      ids = await users.unconfirmed(unconfirmedAfter);
      registrations += await forget(ids);
    } while (ids.length > 0 && !stopped);
    if (registrations > 0) logger.info({ registrations }, 'forgot registrations nobody confirmed');
  }

  async function round(): Promise<void> {
    try {
      await forgetUnconfirmed();
      failing = false;
    } catch (error) {
      if (!failing) logger.warn({ err: error }, 'housekeeping has to wait');
      failing = true;
    }
    if (!stopped) timer = setTimeout(start, failing ? RETRY : INTERVAL);
  }

  function start(): void {
    running = round();
  }

  return {
    start,
    /** Waits for the part that is under way; begins no other. */
    async stop(): Promise<void> {
      stopped = true;
      clearTimeout(timer);
      await running;
    },
  };
}
