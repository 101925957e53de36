/** What goes wrong in the background, as it is told to whoever embeds this. */

export type Report = (error: unknown) => void;

/** @param onError what it throws becomes a warning of the process: it must not end what told it, nor keep a copy from being made. */
export function createReport(onError: (error: Error) => void): Report {
  return (error) => {
    try {
      onError(error instanceof Error ? error : new Error(String(error)));
    } catch (thrown) {
      process.emitWarning(thrown instanceof Error ? thrown : String(thrown));
    }
  };
}

/** Tells of what lasts once, until it is over (undefined). */
export function createCondition(report: Report) {
  let told = false;
  return (what: Error | undefined): void => {
    if (what && !told) report(what);
    told = what !== undefined;
  };
}

/**
 * Seconds a line stays in the log after the last token it speaks of has expired (the issuer's CLOCK_TOLERANCE): a host whose clock is further
 * behind may take a token for good that was revoked and whose line is gone.
 */
const CLOCK_TOLERANCE = 60;

/** Tells of a clock of this host that is too far behind. */
export function createClockWatch(report: Report) {
  const isBehind = createCondition(report);
  /** @param now milliseconds, by the issuer's clock. */
  return (now: number): void => {
    const behind = Math.floor((now - Date.now()) / 1000);
    const isTold = behind > CLOCK_TOLERANCE;
    isBehind(isTold ? new Error(`the clock of this host is ${behind} s behind the issuer's`) : undefined);
  };
}
