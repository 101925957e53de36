/**
 * Does again, on the users' slots, what the revocation log says. On Redis Cluster each shard fails over by itself and may lose what it
 * acknowledged last: there a session that ended lives again, and a cut-off is forgotten. The log, on a shard of its own, still knows, and
 * the copy of it refuses such a session at once; but only for as long as an access token lives, and an opaque one lives longer (ADR 20).
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { LoggedRevocation, RevocationLog } from '../store/revocation-log.ts';
import type { SessionStore } from '../store/sessions.ts';

/** Milliseconds until what a shard refused is tried again; a line of the log matters for a minute at least. */
const RETRY = 1000;
/** Lines done at once: a small part of what a shard can do. */
const AT_ONCE = 50;

export interface LogReplayOptions {
  log: Pick<RevocationLog, 'lines'>;
  sessions: SessionStore;
  logger: Logger;
  onError: (error: Error) => void;
}

export function createLogReplay({ log, sessions, logger, onError }: LogReplayOptions) {
  let asked = 0;
  let running = false;
  let closed = false;

  /** @returns the sessions that were there although they had ended. */
  async function redo({ userId, ...line }: LoggedRevocation): Promise<number> {
    if (!('cutoff' in line)) return (await sessions.endOne(userId, line.sessionId)).length;
    if ((await sessions.cutOffAt(userId)) < line.cutoff) await sessions.cutOff(userId, line.cutoff);
    return 0;
  }

  async function pass(): Promise<void> {
    let ended = 0;
    for await (const lines of log.lines(AT_ONCE)) {
      const counts = await Promise.all(lines.map(redo));
      for (const count of counts) ended += count;
    }
    if (ended > 0) logger.warn({ sessions: ended }, 'a shard of Redis had lost the end of sessions: ended again');
  }

  async function run(): Promise<void> {
    running = true;
    for (let done = 0; done < asked && !closed; ) {
      const doing = asked;
      try {
        await pass();
        done = doing;
      } catch (error) {
        onError(error instanceof Error ? error : new Error(String(error)));
        await wait(RETRY, undefined, { ref: false });
      }
    }
    running = false;
  }

  return {
    /** Whenever a shard may have another master: goes over the whole log once more, until every shard has taken it. */
    start(): void {
      asked += 1;
      if (!running && !closed) void run();
    },
    stop(): void {
      closed = true;
    },
  };
}
