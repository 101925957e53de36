/** What a start tells the person who waits for it: what is happening, and how long it took. */

export type Progress = {
  /** Runs one step and tells how long it took; when it takes long, says meanwhile what is being waited for. */
  step<Result>(label: string, work: Promise<Result>, detail?: (result: Result) => string): Promise<Result>;
  line(text: string): void;
};

/** A wait below this needs no explanation. */
const SILENT_MS = 2000;
const REMIND_MS = 10_000;

/** Progress as plain lines, readable in a terminal and in a log alike. */
export function createProgress(write: (text: string) => void): Progress {
  const line = (text: string): void => write(`${text}\n`);
  return {
    line,
    async step(label, work, detail) {
      const start = performance.now();
      let timer = setTimeout(function remind() {
        line(`  … ${label} (${elapsed(start)})`);
        timer = setTimeout(remind, REMIND_MS);
      }, SILENT_MS);
      try {
        const result = await work;
        line(`  ✓ ${label}${detail === undefined ? '' : ` ${detail(result)}`} (${elapsed(start)})`);
        return result;
      } catch (error) {
        line(`  ✗ ${label} (${elapsed(start)})`);
        throw error;
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

/** Time since a `performance.now()`, for people. */
export function elapsed(since: number): string {
  const seconds = (performance.now() - since) / 1000;
  return `${seconds.toFixed(seconds < 10 ? 2 : 0)} s`;
}
