import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { inheritedEnvironment } from './environment.ts';
import { StackFailure } from './stack-failure.ts';

/**
 * Below the ports a system hands to outgoing connections (Linux 32768 up, macOS 49152 up): a server that is stopped and
 * started again must find its port as it left it.
 */
const LOWEST = 20_000;
const HIGHEST = 32_000;
const ATTEMPTS = 50;
/** Test processes at once draw from shares of their own: what one was given another must not find free. */
const SHARES = 4;
/** Given away by this process: an app listens on its port only seconds after it was given it. */
const given = new Set<number>();

/** A port that something else listens on. */
export class PortTaken extends StackFailure {}

/** Whether a server could listen on this address and port now. An address this machine does not have counts as free. */
export function portIsFree(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EACCES') {
        reject(new PortTaken(`Port ${port} may not be used by this user (${error.message}). Choose one above 1023.`));
      } else {
        resolve(error.code !== 'EADDRINUSE');
      }
    });
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** A port of 127.0.0.1 that is free now: the preferred one where it is, else one at random. */
export async function freePort(preferred?: number): Promise<number> {
  if (preferred !== undefined && (await portIsFree(preferred))) {
    return preferred;
  }
  const size = (HIGHEST - LOWEST) / SHARES;
  const first = LOWEST + size * (Number(inheritedEnvironment().VITEST_POOL_ID ?? 0) % SHARES);
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const port = first + Math.floor(Math.random() * size);
    if (given.has(port)) {
      continue;
    }
    // Before it is looked at: two may ask at once.
    given.add(port);
    if (await portIsFree(port)) {
      return port;
    }
  }
  throw new StackFailure(`No free port found between ${LOWEST} and ${HIGHEST}: too many servers run on this machine.`);
}

/**
 * Starts a server on the requested port, or on a free one. Between finding a port free and listening on it, another
 * process may take it: then the next one is tried.
 */
export async function onFreePort<Server>(
  requested: number | undefined,
  start: (port: number) => Promise<Server>,
): Promise<Server> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start(requested ?? (await freePort()));
    } catch (error) {
      if (!(error instanceof PortTaken) || requested !== undefined || attempt === ATTEMPTS) {
        throw error;
      }
    }
  }
}

/**
 * Makes sure that a port somebody asked for can be had.
 *
 * @param purpose What it is for, as the message says it.
 * @param variable What to set to choose another one, if there is such a variable.
 * @throws PortTaken naming the port, who holds it where that can be seen, and the variable.
 */
export async function claimPort(
  port: number,
  hosts: readonly string[],
  purpose: string,
  variable?: string,
): Promise<void> {
  for (const host of hosts) {
    if (!(await portIsFree(port, host))) {
      throw portTaken(port, purpose, variable);
    }
  }
}

/** The message of a taken port, see {@link claimPort}. */
export function portTaken(port: number, purpose: string, variable?: string): PortTaken {
  const holder = portHolder(port) ?? 'another program';
  const wayOut =
    variable === undefined ? 'Stop it first.' : `Stop it, or choose another port: ${variable}=${port + 1000} npm start`;
  return new PortTaken(`Port ${port} (${purpose}) is taken by ${holder}. ${wayOut}`);
}

/**
 * Who listens on a TCP port, as `name (pid n)`; undefined where that cannot be known: not on Linux, or a process of
 * another user.
 */
export function portHolder(port: number): string | undefined {
  const inodes = new Set([...listeningInodes('/proc/net/tcp', port), ...listeningInodes('/proc/net/tcp6', port)]);
  const pid = inodes.size === 0 ? undefined : readFolder('/proc').find((entry) => holdsSocket(entry, inodes));
  if (pid === undefined) {
    return undefined;
  }
  const [program = '', ...args] = readText(`/proc/${pid}/cmdline`).split('\0');
  const shown = [program.split('/').at(-1), ...args].join(' ').trim();
  return `${shown.length > 60 ? `${shown.slice(0, 60)}…` : shown} (pid ${pid})`;
}

/** proc(5), /proc/net/tcp: column 2 is the local address with the port in hex, column 4 the state (0A: LISTEN), 10 the inode. */
function listeningInodes(table: string, port: number): string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return readText(table)
    .split('\n')
    .map((row) => row.trim().split(/\s+/))
    .filter(([, local = '', , state]) => state === '0A' && local.endsWith(suffix))
    .map((row) => row[9] ?? '');
}

function holdsSocket(entry: string, inodes: ReadonlySet<string>): boolean {
  return (
    /^\d+$/.test(entry) &&
    readFolder(`/proc/${entry}/fd`).some((fd) => {
      try {
        const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${entry}/fd/${fd}`))?.[1];
        return inode !== undefined && inodes.has(inode);
      } catch {
        return false;
      }
    })
  );
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function readFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
