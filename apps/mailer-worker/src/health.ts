/** What the worker depends on, and whether it is there. */

import { setTimeout as wait } from 'node:timers/promises';
import type { RedisConnection } from '@latchkey/shared/redis-connections';
import type { Logger } from 'pino';

type Check = 'up' | 'down';

export interface Readiness {
  /**
   * `unavailable`: without Redis there is no queue and nothing can be done. `degraded`: jobs are taken and nothing is lost, but an operator
   * should look. A mail server that is away only degrades: its mails wait and are retried for days, a restart would not help, and a
   * release must be able to go out during its outage. Alert on `checks.smtp`, or on the retries counted in `/metrics`.
   */
  readonly status: 'ready' | 'degraded' | 'unavailable';
  readonly checks: { readonly redis: Check; readonly smtp: Check };
  readonly warnings: readonly string[];
}

/** Milliseconds a verdict on the mail server stands: health checks come every few seconds, and each verdict is a connection to it. */
const SMTP_VERDICT_FOR = 5_000;

/** Milliseconds the first health check waits for the first verdict, inside the 2 s within which it must be answered. */
const FIRST_VERDICT_WITHIN = 1_000;

/** The reason to warn when this Redis may throw queue keys away, from its INFO (`CONFIG` is closed on many managed ones). */
export function evictionWarning(info: string): string | undefined {
  const policy = /^maxmemory_policy:(\S+)/m.exec(info)?.[1];
  if (policy === undefined || policy === 'noeviction') return undefined;
  return `Redis may evict queued mails: its maxmemory-policy is ${policy}, set it to noeviction`;
}

/**
 * @param redis a connection that fails fast.
 * @param verify opens a connection to the mail server, logs in and leaves; rejects when that fails.
 */
export function createHealth(
  redis: RedisConnection,
  verify: () => Promise<unknown>,
  logger: Logger,
): () => Promise<Readiness> {
  let smtp: Check | undefined;
  let checking: Promise<void> | undefined;
  let checkedAt = Number.NEGATIVE_INFINITY;

  async function askMailServer(): Promise<void> {
    const verdict = await verify().then(
      (): Check => 'up',
      (): Check => 'down',
    );
    if (verdict !== smtp && (verdict === 'down' || smtp !== undefined)) {
      logger[verdict === 'down' ? 'warn' : 'info'](
        { smtp: verdict },
        'the mail server answers differently than before',
      );
    }
    smtp = verdict;
    checkedAt = performance.now();
    checking = undefined;
  }

  /** The last verdict; asks again in the background when it is old, and waits only for the very first one. */
  async function mailServer(): Promise<Check> {
    if (checking === undefined && performance.now() - checkedAt > SMTP_VERDICT_FOR) checking = askMailServer();
    if (smtp === undefined) await Promise.race([checking, wait(FIRST_VERDICT_WITHIN, undefined, { ref: false })]);
    return smtp ?? 'down';
  }

  return async () => {
    const [info, mail] = await Promise.all([redis.info('memory').catch(() => undefined), mailServer()]);
    const warning = info === undefined ? undefined : evictionWarning(info);
    const degraded = mail === 'down' || warning !== undefined;
    return {
      status: info === undefined ? 'unavailable' : degraded ? 'degraded' : 'ready',
      checks: { redis: info === undefined ? 'down' : 'up', smtp: mail },
      warnings: warning === undefined ? [] : [warning],
    };
  };
}
