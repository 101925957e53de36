/** One of our apps as a child process: started until it is ready, its log kept, its warnings shown. */
import { appendFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Environment } from './environment.ts';
import { type Ending, startProcess } from './processes.ts';
import { StackFailure } from './stack-failure.ts';

export type AppProgram = {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Environment;
  /** Its /readyz is asked here. */
  readonly readyUrl: string;
  readonly logFile: string;
  /** Shown to the person: its warnings, errors and whatever is not a log line. */
  readonly show: (line: string) => void;
  /** Told, with its last lines, when it ends without having been asked to. */
  readonly onDeath: (lastLines: string) => void;
};

export type RunningApp = {
  /** SIGTERM, so that it drains; killed after the patience. */
  stop(patienceMs?: number): Promise<void>;
  /** It keeps its connections and does nothing (SIGSTOP) until `thaw`. */
  freeze(): void;
  thaw(): void;
};

/** Its first connections and a check of its key store included. */
const READY_PATIENCE_MS = 30_000;
const POLL_MS = 20;
const LINES_KEPT = 15;
/** pino's number for `warn`. */
const WARN = 40;

/** Resolves when /readyz answers 200. @throws StackFailure with the app's last lines when it ends or stays unready. */
export async function startApp(app: AppProgram): Promise<RunningApp> {
  const lines: string[] = [];
  const child = startProcess({
    command: app.command,
    args: app.args,
    env: app.env,
    endSignal: 'SIGTERM',
    output(line) {
      appendFileSync(app.logFile, `${line}\n`, { mode: 0o600 });
      lines.push(line);
      lines.splice(0, lines.length - LINES_KEPT);
      const shown = forPeople(app.name, line);
      if (shown !== undefined) {
        app.show(shown);
      }
    },
  });
  const lastLines = (): string => lines.map((line) => `    ${line}`).join('\n');
  let phase: 'booting' | 'ready' | 'stopping' = 'booting';
  let ending: Ending | undefined;
  void child.ended.then((how) => {
    ending = how;
    if (phase === 'ready') {
      app.onDeath(`${app.name} ended by itself (${described(how)}). Its last lines:\n${lastLines()}`);
    }
  });
  const deadline = Date.now() + READY_PATIENCE_MS;
  let answer = await askReady(app.readyUrl);
  while (answer !== 'ready') {
    if (ending !== undefined) {
      throw new StackFailure(`${app.name} did not start (${described(ending)}). Its last lines:\n${lastLines()}`);
    }
    if (Date.now() > deadline) {
      await child.stop();
      throw new StackFailure(`${app.name} is not ready after ${READY_PATIENCE_MS / 1000} s: ${answer}\n${lastLines()}`);
    }
    await delay(POLL_MS);
    answer = await askReady(app.readyUrl);
  }
  phase = 'ready';
  return {
    async stop(patienceMs) {
      phase = 'stopping';
      await child.stop(patienceMs);
    },
    freeze: () => child.signal('SIGSTOP'),
    thaw: () => child.signal('SIGCONT'),
  };
}

async function askReady(url: string): Promise<string> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(2000) });
    const body = await response.text();
    return response.status === 200 ? 'ready' : `${url} answers ${response.status} ${body.trim()}`;
  } catch {
    return `${url} does not answer`;
  }
}

/** A log line worth a person's attention, readably; undefined for the rest, which is in the log file. */
export function forPeople(name: string, line: string): string | undefined {
  const entry = asLogEntry(line);
  if (entry === undefined) {
    return line.trim() === '' ? undefined : `${name} │ ${line}`;
  }
  const level = Number(entry.level);
  if (!(level >= WARN)) {
    return undefined;
  }
  const severity = level >= 60 ? 'fatal' : level >= 50 ? 'error' : 'warning';
  const error = entry.err;
  const cause = isRecord(error) && typeof error.message === 'string' ? `: ${error.message}` : '';
  return `${name} │ ${severity}: ${String(entry.msg ?? '')}${cause}`;
}

function asLogEntry(line: string): Record<string, unknown> | undefined {
  try {
    const entry: unknown = JSON.parse(line);
    return isRecord(entry) ? entry : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function described({ code, signal }: Ending): string {
  return signal === null ? `exit code ${code}` : signal;
}
