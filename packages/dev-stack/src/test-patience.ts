/**
 * Vitest's `setupFiles`: how long a test waits for what comes by itself, unless it says otherwise. A machine that runs two suites and their
 * servers on two cores stands still for seconds at times, and vitest's own second was over before what it waited for was wrong.
 */
import { vi } from 'vitest';

const PATIENCE_MS = 20_000;

const { waitFor } = vi;
vi.waitFor = (check, options) =>
  waitFor(check, typeof options === 'number' ? options : { timeout: PATIENCE_MS, ...options });
