/** Runs a stack (or anything that ends in one) as a process of its own and tells what becomes of it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { type Environment, inheritedEnvironment } from '../src/environment.ts';
import { portIsFree } from '../src/ports.ts';
import { identify, isRunning, type ProcessIdentity } from '../src/process-identity.ts';

export const standInStack: string = fileURLToPath(new URL('./stand-in-stack.ts', import.meta.url));

export type StackUnderTest = {
  readonly child: ChildProcess;
  readonly env: Environment;
  /** What it has printed so far. */
  output(): string;
  /** Waits until it has printed something, or fails with what it has printed instead. */
  says(what: string): Promise<void>;
  /** Resolves to its exit code. */
  readonly exit: Promise<number | null>;
};

/** A folder that goes with the test. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'dev-stack-test-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }));
  return path;
}

/** Ports nobody has, as the environment names them. */
async function freePorts(): Promise<Record<'API_PORT' | 'WORKER_PORT' | 'INBOX_PORT', string>> {
  return { API_PORT: await keptPort(), WORKER_PORT: await keptPort(), INBOX_PORT: await keptPort() };
}

/**
 * A free port that stays so until the stack listens on it: below those a server gets that takes any (ports.ts), and while the test lasts nobody
 * else draws it here, in whatever process, because its UDP namesake is taken.
 */
async function keptPort(): Promise<string> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 8000);
    const namesake = createSocket('udp4').bind({ port, address: '127.0.0.1', exclusive: true });
    onTestFinished(() => void namesake.close());
    const kept = await once(namesake, 'listening').then(
      () => true,
      () => false,
    );
    if (kept && (await portIsFree(port))) return String(port);
  }
}

/** Starts a program in a process group of its own, as a shell does, on free ports unless told otherwise. */
export async function start(command: string, args: readonly string[], more: Environment = {}): Promise<StackUnderTest> {
  const inherited = inheritedEnvironment();
  const env = { PATH: inherited.PATH, HOME: inherited.HOME, ...(await freePorts()), ...more };
  const child = spawn(command, args, { detached: true, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  const exit = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  let ended = false;
  void exit.then(() => {
    ended = true;
  });
  onTestFinished(() => {
    // A test that failed half way leaves its stack, perhaps because the stack does not clean up.
    for (const { pid } of child.pid === undefined ? [] : [...descendants(child.pid), { pid: child.pid }]) {
      kill(pid);
    }
  });
  return {
    child,
    env,
    output: () => output,
    exit,
    async says(what) {
      while (!output.includes(what)) {
        if (ended) {
          throw new Error(`It ended without saying "${what}":\n${output}`);
        }
        await delay(20);
      }
    },
  };
}

/** Starts the stand-in stack in a state folder. */
export function startStack(stateDir: string, more: Environment = {}, ...options: string[]): Promise<StackUnderTest> {
  return start(process.execPath, [standInStack, stateDir, ...options], more);
}

/** All processes that descend from this one, itself left out. */
export function descendants(pid: number): ProcessIdentity[] {
  const parents = new Map(
    readdirSync('/proc')
      .filter((entry) => /^\d+$/.test(entry))
      .map((entry) => [Number(entry), parentOf(entry)]),
  );
  const found = new Set([pid]);
  for (let before = 0; before < found.size; ) {
    before = found.size;
    for (const [child, parent] of parents) {
      if (parent !== undefined && found.has(parent)) {
        found.add(child);
      }
    }
  }
  found.delete(pid);
  return [...found].flatMap((one) => identify(one) ?? []);
}

/** Waits until none of them runs; the test's own timeout is the limit. */
export async function allGone(processes: readonly ProcessIdentity[]): Promise<void> {
  while (processes.some(isRunning)) {
    await delay(20);
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

function parentOf(pid: string): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return undefined;
  }
}
