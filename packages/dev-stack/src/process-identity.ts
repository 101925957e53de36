import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/**
 * One process, for good: a pid alone may name another process once the first has ended, pid and start time together
 * never do.
 */
export type ProcessIdentity = {
  readonly pid: number;
  /** Opaque; only equality counts. Linux: clock ticks since boot. */
  readonly startedAt: string;
};

/** The identity of a live process, or undefined when there is none (or only its zombie) under this pid. */
export function identify(pid: number): ProcessIdentity | undefined {
  const startedAt = process.platform === 'linux' ? startFromProc(pid) : startFromPs(pid);
  return startedAt === undefined ? undefined : { pid, startedAt };
}

/** Whether this very process (not a later one under the same pid) still runs. */
export function isRunning(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.startedAt === identity.startedAt;
}

/** proc(5): field 3 is the state, field 22 the start time; field 2, in brackets, may hold blanks and brackets itself. */
function startFromProc(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function startFromPs(pid: number): string | undefined {
  try {
    const [state = '', ...start] = execFileSync('ps', ['-o', 'state=,lstart=', '-p', String(pid)], { encoding: 'utf8' })
      .trim()
      .split(/\s+/);
    return state === '' || state.startsWith('Z') ? undefined : start.join(' ');
  } catch {
    return undefined;
  }
}
