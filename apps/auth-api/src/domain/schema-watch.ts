/**
 * Whether this build and the database belong together (ADR 24). As long as they do not, nothing is done in it: a statement that happens to
 * work would be half of something.
 */
import { type KnownMigration, misfit } from '@latchkey/shared/migrations';
import type { Logger } from 'pino';
import { NotReady } from '../not-ready.ts';
import { Problem } from '../problems.ts';

/** Milliseconds between two looks nobody asked for: the database may be migrated on under a running instance. */
const INTERVAL = 5000;

export interface SchemaWatchOptions {
  /** Rejects when the database does not answer. */
  known: () => Promise<KnownMigration[]>;
  logger: Logger;
}

export function createSchemaWatch({ known, logger }: SchemaWatchOptions) {
  /** What was found last; undefined: nothing yet. A database that does not answer changes nothing, it is the requests' own trouble. */
  let found: { reason: string | undefined } | undefined;
  let timer: NodeJS.Timeout | undefined;

  async function look(): Promise<string | undefined> {
    let reason: string | undefined;
    try {
      reason = misfit(await known());
    } catch (error) {
      if (!(error instanceof NotReady)) throw error;
      reason = error.message;
    }
    if (reason !== found?.reason) {
      if (reason === undefined) logger.info('the database is as this release needs it');
      else
        logger.error({ reason }, 'this release cannot use the database as it is: everything that needs it is refused');
    }
    found = { reason };
    return reason;
  }

  return {
    /** Looks now. @throws {NotReady} when they do not belong together; else what the database throws. */
    async check(): Promise<void> {
      const reason = await look();
      if (reason !== undefined) throw new NotReady(reason);
    },

    /** Whether they were last found to belong together. */
    fits: (): boolean => found !== undefined && found.reason === undefined,

    /** By what was found last; the first one looks itself. @throws {Problem} `dependency_unavailable`. */
    async assertFits(): Promise<void> {
      if (found === undefined) await look();
      if (found?.reason !== undefined)
        throw new Problem('dependency_unavailable', {
          detail: 'postgresql cannot be used as it is',
          cause: new NotReady(found.reason, { dependency: 'postgresql' }),
        });
    },

    start(): void {
      const soon = () => void look().catch(() => undefined);
      timer = setInterval(soon, INTERVAL);
      soon();
    },
    stop: (): void => clearInterval(timer),
  };
}
