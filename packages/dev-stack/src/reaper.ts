/**
 * Outlives the process that started it by just long enough to leave nothing behind. Its standard input is a pipe whose
 * other end only that process holds: when the pipe closes, by exit, exception or kill -9 alike, every process named on it
 * is asked to end and, where it does not, killed.
 *
 * Lines understood: `<pid> <signal>` (a process group leader and the signal that asks it to end) and `folder <path>`
 * (a temporary folder to remove last).
 */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { identify, isRunning, type ProcessIdentity } from './process-identity.ts';

/** How long a process may take to end by itself (PostgreSQL's fast shutdown and Redis' last fsync need well under 1 s). */
const PATIENCE_MS = 3000;
const POLL_MS = 25;

type Charge = { readonly identity: ProcessIdentity; readonly endSignal: NodeJS.Signals };

const charges: Charge[] = [];
const folders: string[] = [];

// Ctrl-C and a closing terminal reach every process of a session: this one has work left to do then.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => undefined);
}

for await (const line of createInterface({ input: process.stdin })) {
  take(line);
}
await reap();
for (const folder of folders) {
  rmSync(folder, { recursive: true, force: true });
}

function take(line: string): void {
  const [first = '', ...rest] = line.split(' ');
  if (first === 'folder') {
    const path = rest.join(' ');
    // Never more than what this package makes itself.
    if (path.startsWith(join(tmpdir(), 'latchkey-'))) {
      folders.push(path);
    }
    return;
  }
  const identity = identify(Number(first));
  if (identity !== undefined) {
    charges.push({ identity, endSignal: rest[0] as NodeJS.Signals });
  }
}

async function reap(): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  let left = charges.filter(({ identity }) => isRunning(identity));
  for (const { identity, endSignal } of left) {
    // A stopped process acts on nothing but SIGKILL until it is continued.
    signalGroup(identity.pid, 'SIGCONT');
    signalGroup(identity.pid, endSignal);
  }
  while (left.length > 0) {
    await delay(POLL_MS);
    left = left.filter(({ identity }) => isRunning(identity));
    if (Date.now() > deadline) {
      for (const { identity } of left) {
        signalGroup(identity.pid, 'SIGKILL');
      }
    }
  }
}

function signalGroup(leader: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-leader, signal);
  } catch {
    // It ended meanwhile.
  }
}
