/**
 * The one way this package starts a process, so that nothing is left after Ctrl-C, a crash or a kill -9 of the parent:
 * each child leads a process group of its own (Ctrl-C in a terminal does not reach it, its parent decides when it ends),
 * and is known to the reaper before its program runs.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type Environment, inheritedEnvironment } from './environment.ts';
import { identify, type ProcessIdentity } from './process-identity.ts';
import { StackFailure } from './stack-failure.ts';

/**
 * The shell registers its own pid on descriptor 3 and then becomes the program, under the same pid. Even a parent that is
 * killed between fork and the next line of its code leaves no unknown child: the pipe stays open until `exec`.
 */
const REGISTER_THEN_EXEC = 'echo "$$ $0" >&3; exec "$@" 3>&-';

/** How a process ended. */
export type Ending = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type SupervisedProcess = {
  readonly pid: number;
  /** Resolves once it has ended and all its output was read; never rejects. */
  readonly ended: Promise<Ending>;
  /** Sends a signal to the whole process group; nothing happens when it has ended. */
  signal(signal: NodeJS.Signals): void;
  /** Asks it to end, kills it after `patienceMs`, and resolves once it is gone. */
  stop(patienceMs?: number): Promise<Ending>;
};

export type ProgramToRun = {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env: Environment;
  /** The signal that asks it to end in good order. */
  readonly endSignal: NodeJS.Signals;
  /** Where its output goes: our own, appended to a file, or line by line to a function. */
  readonly output: 'inherit' | { readonly file: string } | ((line: string) => void);
};

/** Longer than a drain takes; after it a process is killed. */
const STOP_PATIENCE_MS = 10_000;

let reaper: ChildProcess | undefined;
const running = new Set<SupervisedProcess>();

/**
 * Starts a program under supervision.
 *
 * @throws StackFailure when no process can be made at all. A program that cannot be found ends with code 127.
 */
export function startProcess(program: ProgramToRun): SupervisedProcess {
  const file = typeof program.output === 'object' ? openSync(program.output.file, 'a', 0o600) : undefined;
  const out = file ?? (program.output === 'inherit' ? 'inherit' : 'pipe');
  const stdio: StdioOptions = ['ignore', out, out, reaperInput()];
  const child = spawn('/bin/sh', ['-c', REGISTER_THEN_EXEC, program.endSignal, program.command, ...program.args], {
    detached: true,
    stdio,
    // What Node has compiled is worth the same to all (test-run.ts).
    env: { NODE_COMPILE_CACHE: inheritedEnvironment().NODE_COMPILE_CACHE, ...program.env },
    ...(program.cwd === undefined ? {} : { cwd: program.cwd }),
  });
  if (file !== undefined) {
    closeSync(file);
  }
  const { pid } = child;
  if (pid === undefined) {
    child.on('error', () => undefined);
    throw new StackFailure(
      `${program.command} could not be started: no shell at /bin/sh, or the folder ${program.cwd} is gone.`,
    );
  }
  if (typeof program.output === 'function') {
    eachLine(child.stdout, program.output);
    eachLine(child.stderr, program.output);
  }
  const supervised = supervise(child, pid, program.endSignal);
  running.add(supervised);
  void supervised.ended.then(() => running.delete(supervised));
  return supervised;
}

/** Ends every process this one has started and that still runs, in no order: the last net of an orderly exit. */
export async function stopAllProcesses(patienceMs?: number): Promise<void> {
  await Promise.all([...running].map((one) => one.stop(patienceMs)));
}

/** A new folder below the system's temporary one; it goes when this process has ended. */
export function temporaryFolder(purpose: string): string {
  const path = mkdtempSync(join(tmpdir(), `latchkey-${purpose}-`));
  reaperInput().write(`folder ${path}\n`);
  return path;
}

/** Who cleans up after this process; while it runs, what this process has started may still run too. */
export function reaperIdentity(): ProcessIdentity | undefined {
  reaperInput();
  return reaper?.pid === undefined ? undefined : identify(reaper.pid);
}

function supervise(child: ChildProcess, pid: number, endSignal: NodeJS.Signals): SupervisedProcess {
  const signalGroup = (signal: NodeJS.Signals): void => {
    try {
      process.kill(-pid, signal);
    } catch {
      // It has ended.
    }
  };
  const ended = new Promise<Ending>((resolve) => {
    // What it has started itself and left behind ends with it; without this, an inherited pipe could stay open for ever.
    child.once('exit', () => signalGroup('SIGKILL'));
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const signal = (name: NodeJS.Signals): void => {
    if (!hasEnded()) {
      signalGroup(name);
    }
  };
  return {
    pid,
    ended,
    signal,
    async stop(patienceMs = STOP_PATIENCE_MS) {
      signal('SIGCONT');
      signal(endSignal);
      const timer = setTimeout(() => signal('SIGKILL'), patienceMs);
      try {
        return await ended;
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

function eachLine(stream: Readable | null, take: (line: string) => void): void {
  if (stream !== null) {
    createInterface({ input: stream }).on('line', take);
  }
}

/** The pipe to the reaper, started with the first child. */
function reaperInput(): Socket {
  if (reaper === undefined || reaper.exitCode !== null || reaper.signalCode !== null) {
    reaper = spawn(process.execPath, [fileURLToPath(new URL('./reaper.ts', import.meta.url))], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
      // Not NODE_OPTIONS and the like of the parent. PATH: `ps`, where there is no /proc. TMPDIR: the folders it may remove.
      env: { PATH: inheritedEnvironment().PATH, TMPDIR: tmpdir() },
      cwd: '/',
    });
    reaper.unref();
    const input = reaper.stdin as Socket;
    input.unref();
    // A reaper that is gone protects nobody, and its absence must not break an orderly stop.
    input.on('error', () => undefined);
  }
  return reaper.stdin as Socket;
}
