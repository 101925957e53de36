/**
 * Whether the mail server can be reached at all. While it can't, no mail is to blame: this worker takes none, so all of them wait in the
 * queue in the order of their age and use up none of their attempts. Other workers, whose way to a mail server may be another, go on.
 */
import type { Logger } from 'pino';
import { askedOnce } from './asked-once.ts';

/**
 * Milliseconds from one look for it to the next: doubled from the first to the last, so that a worker goes on within 10 s of the server
 * being back. One that hangs, begun before that, holds up no other.
 */
const FIRST_LOOK = 250;
const LAST_LOOK = 8_000;

export interface MailServerWatchOptions {
  /** Resolves when a mail server takes our connection and login. */
  readonly verify: () => Promise<unknown>;
  /** Takes no more jobs. */
  readonly pause: () => void;
  /** Takes jobs again. */
  readonly resume: () => void;
  readonly logger: Logger;
}

export function createMailServerWatch({ verify, pause, resume, logger }: MailServerWatchOptions) {
  let awaySince: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  const look = () =>
    verify().then(
      () => true,
      () => false,
    );
  const lookForAll = askedOnce(look);

  function lookIn(milliseconds: number): void {
    timer = setTimeout(async () => {
      lookIn(Math.min(milliseconds * 2, LAST_LOOK));
      if (!(await look()) || closed || awaySince === undefined) return;
      clearTimeout(timer);
      logger.info(
        { seconds: Math.round((performance.now() - awaySince) / 1000) },
        'the mail server is back, taking mails',
      );
      awaySince = undefined;
      resume();
    }, milliseconds);
  }

  return {
    /** A mail found nobody to take it. */
    away(reason: string): void {
      if (awaySince !== undefined || closed) return;
      awaySince = performance.now();
      logger.warn({ reason }, 'no mail server takes mails: they wait in the queue');
      pause();
      lookIn(FIRST_LOOK);
    },

    /** Whether it can be reached now: one look for all who ask meanwhile. */
    async answers(): Promise<boolean> {
      return awaySince === undefined && lookForAll();
    },

    /** Looks no more. */
    close(): void {
      closed = true;
      clearTimeout(timer);
    },
  };
}

export type MailServerWatch = ReturnType<typeof createMailServerWatch>;
