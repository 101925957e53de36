/**
 * The relay from outbox to queue and back: publishes what is owed, takes back what is owed no more, deletes what was accepted,
 * publishes again what the queue lost.
 * Every instance runs one; none is special.
 */
import { isUuid } from '@latchkey/shared/uuid';
import type { Logger } from 'pino';
import type { MailQueue } from '../store/mail-queue.ts';
import type { Outbox } from '../store/outbox.ts';

/** Milliseconds between two passes nobody asked for: the net below the kick that follows each commit. */
const INTERVAL = 1000;
/** Passes between two searches for lost jobs: every 10 s. While all that a search looks at was lost, the next one follows at once. */
const SEARCH_EVERY = 10;
/**
 * Acceptances acknowledged at once. Fewer than that wait for the next pass: a row more or less hurts nobody, and while mails flow each look
 * would find a few, for a transaction of its own.
 */
const ACKNOWLEDGE = 1000;
/** Milliseconds between two searches for dead links: unlike lost jobs they are looked for among all that is owed, so kicks must not hasten it. */
const DEAD_EVERY = 10_000;
/** Seconds a published mail is left alone before its job is looked for. */
const LOST_AFTER = 10;

export interface MailRelayOptions {
  outbox: Outbox;
  /** Rejects while the database can't be used as it is: then nothing is done in it. */
  allowed: () => Promise<void>;
  queue: MailQueue;
  logger: Logger;
  /** Seconds, see {@link LOST_AFTER}; a test asks sooner. */
  lostAfter?: number;
  /** Passes, see {@link SEARCH_EVERY}. */
  searchEvery?: number;
}

export function createMailRelay({
  outbox,
  allowed,
  queue,
  logger,
  lostAfter = LOST_AFTER,
  searchEvery = SEARCH_EVERY,
}: MailRelayOptions) {
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  let again = false;
  let passes = 0;
  let failing = false;
  /** Lost jobs found by searches that follow each other; undefined when the last one found the end of them. */
  let lostSoFar: number | undefined;
  /** The mail up to which the last search for dead links has looked; undefined: the next begins with the first. */
  let lookedUpTo: string | undefined;
  let lookedAt = performance.now();
  /** A pass ends with what it is at: a backlog may take longer than a process has to stop. */
  let closed = false;

  async function publish(): Promise<void> {
    while (!closed && (await outbox.publishPending(queue.add)));
  }

  async function withdraw(): Promise<void> {
    while (!closed && (await outbox.withdrawPending(queue.withdraw)) > 0);
  }

  async function acknowledge(): Promise<void> {
    let ids: string[];
    do {
      ids = await queue.accepted(ACKNOWLEDGE);
      if (ids.length === 0) return;
      // Row first: a crash in between leaves the report, and it is acted on again. What is no id of ours has no row.
      await outbox.delete(ids.filter(isUuid));
      await queue.acknowledge(ids);
    } while (!closed && ids.length === ACKNOWLEDGE);
  }

  /** A job in any state, failed ones too, is the worker's; only one that is nowhere was lost. */
  async function republishLost(): Promise<void> {
    const waiting = await outbox.publishedBefore(lostAfter);
    const lost = waiting.length === 0 ? [] : await queue.missing(waiting);
    if (waiting.length > 0) {
      // A mail accepted since the list was read is missing from the queue too: its report comes first, so the row is gone before this.
      await acknowledge();
      await outbox.touch(waiting);
      await outbox.unpublish(lost);
    }
    const mails = (lostSoFar ?? 0) + lost.length;
    // All of them: Redis was lost, and with it the jobs of the next ones. The next pass publishes these and what is new, and looks on at once.
    const looksOn = lost.length > 0 && lost.length === waiting.length;
    lostSoFar = looksOn ? mails : undefined;
    if (looksOn) again = !closed;
    else if (mails > 0) logger.warn({ mails }, 'jobs were lost with Redis: their mails are published again');
  }

  async function searchDead(): Promise<void> {
    if (performance.now() - lookedAt < DEAD_EVERY) return;
    lookedAt = performance.now();
    lookedUpTo = await outbox.withdrawMissed(lookedUpTo);
  }

  async function pass(): Promise<void> {
    try {
      await allowed();
      await searchDead();
      await Promise.all([publish(), withdraw()]);
      await acknowledge();
      passes += 1;
      if (passes % searchEvery === 0 || lostSoFar !== undefined) await republishLost();
      if (failing) logger.info('the mail relay works again');
      failing = false;
    } catch (error) {
      // One line when it begins; the rows wait and the next pass tries again.
      if (!failing) logger.error({ err: error }, 'the mail relay cannot work: mails wait in the outbox');
      failing = true;
    }
  }

  /** Runs a pass now; a kick during one has another follow it, so that what was committed meanwhile is seen. */
  function kick(): void {
    if (running !== undefined) {
      again = true;
      return;
    }
    running = pass().finally(() => {
      running = undefined;
      if (again) {
        again = false;
        kick();
      }
    });
  }

  return {
    start(): void {
      timer = setInterval(kick, INTERVAL);
      kick();
    },
    kick,
    /** Waits for the pass that runs; starts no other. */
    async close(): Promise<void> {
      clearInterval(timer);
      closed = true;
      again = false;
      await running;
    },
  };
}
