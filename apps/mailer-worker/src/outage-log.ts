/** Connection errors come once a second on each connection while Redis is away: one line in a while says it all. */
import type { Logger } from 'pino';

/** Milliseconds in which the same error of the same part is said once. */
const SAY_AGAIN_AFTER = 30_000;

/** @returns the listener for errors of a part (`redis`, `queue`). */
export function createOutageLog(logger: Logger): (part: string, error: unknown) => void {
  const said = new Map<string, number>();
  return (part, error) => {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    const message = error instanceof Error ? error.message : 'unknown error';
    const what = `${part} ${code || message}`;
    const now = performance.now();
    if (now - (said.get(what) ?? Number.NEGATIVE_INFINITY) < SAY_AGAIN_AFTER) return;
    // Messages differ without end (job ids): keep only what was said lately.
    for (const [known, at] of said) if (now - at >= SAY_AGAIN_AFTER) said.delete(known);
    said.set(what, now);
    logger.warn({ part, code, reason: message }, 'a connection of the queue has trouble; it heals by itself');
  };
}
