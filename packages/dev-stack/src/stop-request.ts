/** That somebody wants the stack to stop, and that they want it twice. */

/**
 * One Ctrl-C reaches us up to three times: from the terminal, forwarded by npm, forwarded by the launcher. What follows
 * the first within this time is the same Ctrl-C.
 */
const ONE_KEYPRESS_MS = 1000;

export class StopRequest {
  readonly #asked = Promise.withResolvers<void>();
  readonly #hurried = Promise.withResolvers<void>();
  #firstAt: number | undefined;

  /** Resolves at the first request. */
  readonly asked: Promise<void> = this.#asked.promise;
  /** Resolves when somebody asks again. */
  readonly hurried: Promise<void> = this.#hurried.promise;

  /** @param now Milliseconds of any steady clock. */
  ask(now = performance.now()): void {
    this.#firstAt ??= now;
    this.#asked.resolve();
    if (now - this.#firstAt > ONE_KEYPRESS_MS) {
      this.#hurried.resolve();
    }
  }
}

/** Ctrl-C, a polite kill, a closed terminal, and the end of the launcher, however it ended, all ask for a stop. */
export function stopRequestOfProcess(): StopRequest {
  const request = new StopRequest();
  for (const event of ['SIGINT', 'SIGTERM', 'SIGHUP', 'disconnect'] as const) {
    process.on(event, () => request.ask());
  }
  // A closed terminal takes our output with it; that must not end us before we have stopped the rest.
  process.stdout.on('error', () => undefined);
  process.stderr.on('error', () => undefined);
  return request;
}
