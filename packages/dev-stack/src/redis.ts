import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { inheritedEnvironment } from './environment.ts';
import { onFreePort } from './ports.ts';
import { temporaryFolder } from './processes.ts';
import { ServerProcess } from './server-process.ts';
import { ensureRedis } from './system-programs.ts';

export type RedisOptions = {
  /** Where its append-only file is kept between runs; without it nothing is written to disk. */
  readonly dir?: string;
  /** Default: a free one. */
  readonly port?: number | undefined;
  /** A configuration file, read before the options; `sentinel` writes to it. */
  readonly config?: string;
  /** More of redis-server's options, after ours. */
  readonly args?: readonly string[];
  /** Folders to look for redis-server in, as in PATH. */
  readonly path?: string;
  /** Told what took a while and why. */
  readonly note?: (line: string) => void;
  /** Told, with the last lines of the log, when the server ends without having been asked to. */
  readonly onDeath?: (lastLines: string) => void;
};

export type RunningRedis = {
  readonly url: string;
  readonly port: number;
  /** Ends it in good order; the append-only file is written out. */
  stop(): Promise<void>;
  /** kill -9: what was not yet written to disk is lost, without a `dir` everything. */
  kill(): Promise<void>;
  /** After `stop` or `kill`: the same server on the same port, with what its `dir` holds. */
  start(): Promise<void>;
  /** It keeps its connections and answers nothing (SIGSTOP) until `thaw`. */
  freeze(): void;
  thaw(): void;
};

/**
 * Starts a real Redis (or Valkey) on 127.0.0.1 and resolves when it answers. It ends with this process, however that ends.
 * It never evicts: sessions and jobs are not a cache.
 *
 * @throws StackFailure naming the way out when there is no Redis, or the port is taken.
 */
export async function startRedis(options: RedisOptions = {}): Promise<RunningRedis> {
  const command = await ensureRedis(options.note ?? (() => undefined), options.path);
  const dir = options.dir ?? temporaryFolder('redis');
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const { port, server } = await onFreePort(options.port, async (candidate) => {
    const server = new ServerProcess({
      name: 'Redis',
      port: candidate,
      program: {
        command,
        args: serverArguments(dir, candidate, options),
        env: { PATH: inheritedEnvironment().PATH, LC_ALL: 'C' },
        endSignal: 'SIGTERM',
      },
      logFile: options.dir === undefined ? join(dir, 'redis.log') : join(dirname(dir), 'redis.log'),
      answers: () => answersPing(candidate),
      onDeath: options.onDeath,
    });
    await server.start();
    return { port: candidate, server };
  });
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    stop: () => server.end(),
    kill: () => server.end('SIGKILL'),
    start: () => server.start(),
    freeze: () => server.signal('SIGSTOP'),
    thaw: () => server.signal('SIGCONT'),
  };
}

function serverArguments(dir: string, port: number, options: RedisOptions): string[] {
  return [
    ...(options.config === undefined ? [] : [options.config]),
    ...['--port', String(port), '--bind', '127.0.0.1', '--protected-mode', 'yes', '--dir', dir],
    ...['--save', '', '--appendonly', options.dir === undefined ? 'no' : 'yes', '--maxmemory-policy', 'noeviction'],
    ...(options.args ?? []),
  ];
}

/** RESP: `+PONG`, or `-NOAUTH` where a suite asked for a password; `-LOADING` while it reads its file. */
function answersPing(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.setTimeout(1000, () => socket.destroy());
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (answer) => {
      resolve(/^(\+PONG|-NOAUTH)/.test(answer.toString('latin1')));
      socket.destroy();
    });
    socket.on('error', () => resolve(false));
    socket.once('close', () => resolve(false));
  });
}
