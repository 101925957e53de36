/** Runs the benchmarks as `npm run bench` does, in a process of their own. */
import { execFileSync, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { inheritedEnvironment } from '@latchkey/dev-stack/environment';
import { identify, isRunning, type ProcessIdentity } from '@latchkey/dev-stack/process-identity';
import { expect, onTestFinished, vi } from 'vitest';

const program = fileURLToPath(new URL('../src/main.ts', import.meta.url));

export function startBench(...args: string[]) {
  const child = spawn(process.execPath, [program, ...args], {
    env: inheritedEnvironment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // What it has started ends with it, however it ends.
  onTestFinished(() => void child.kill('SIGKILL'));
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const exit = new Promise<number | null>((resolve) => child.once('close', resolve));
  return {
    stdout: () => stdout,
    stderr: () => stderr,
    exit,
    interrupt: () => void child.kill('SIGINT'),
    /** Waits until its progress says so. */
    says: (what: string) => vi.waitFor(() => expect(stderr).toContain(what), { timeout: 60_000, interval: 20 }),
    /** The processes it has started. */
    children(): ProcessIdentity[] {
      const table = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' });
      const pairs = table.split('\n').map((line) => line.trim().split(/\s+/).map(Number));
      return pairs.flatMap(([pid = 0, parent]) => (parent === child.pid ? (identify(pid) ?? []) : []));
    },
  };
}

/** Waits until none of these processes runs. */
export async function allGone(processes: readonly ProcessIdentity[]): Promise<void> {
  await vi.waitFor(() => expect(processes.filter(isRunning)).toEqual([]), { timeout: 20_000, interval: 20 });
}
