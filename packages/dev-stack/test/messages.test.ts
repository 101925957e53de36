import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { inheritedEnvironment, readStackSettings } from '../src/environment.ts';
import { freePort } from '../src/ports.ts';
import { isRunning } from '../src/process-identity.ts';
import { startRedis } from '../src/redis.ts';
import { StackFailure } from '../src/stack-failure.ts';
import { ensureProgram, programOnPath } from '../src/system-programs.ts';
import { descendants, folder, type StackUnderTest, start, startStack } from './stack-under-test.ts';

const TIMEOUT = 60_000;

describe('a taken port is named with who holds it and what to set', () => {
  for (const variable of ['API_PORT', 'WORKER_PORT', 'INBOX_PORT']) {
    test(variable, { timeout: TIMEOUT }, async () => {
      const port = await freePort();
      const holder = createServer().listen(port, '127.0.0.1');
      onTestFinished(() => void holder.close());
      const stack = await startStack(folder(), { [variable]: String(port) });
      expect(await stack.exit).toBe(1);
      expect(stack.output()).toContain(`Port ${port} (`);
      expect(stack.output()).toContain(`(pid ${process.pid})`);
      expect(stack.output()).toContain(`${variable}=${port + 1000} npm start`);
      expect(stack.output()).not.toMatch(/\n\s+at /);
    });
  }
});

describe('a missing Redis', () => {
  test('stops the start with the ways to get one', { timeout: TIMEOUT }, async () => {
    // Only what PostgreSQL needs is left on the PATH; without apt-get nothing can be installed either.
    const programs = folder();
    const setpriv = programOnPath('setpriv');
    if (setpriv !== undefined) {
      symlinkSync(setpriv, join(programs, 'setpriv'));
    }
    const stack = await startStack(folder(), { PATH: programs });
    expect(await stack.exit).toBe(1);
    expect(stack.output()).toContain('Redis is missing');
    expect(stack.output()).toContain('apt install redis-server');
    expect(stack.output()).toContain('REDIS_URL=redis://');
    expect(stack.output()).toContain('Everything is stopped');
  });

  test('is a failure a suite can tell', async () => {
    await expect(startRedis({ path: folder() })).rejects.toThrow(StackFailure);
  });
});

describe.runIf(process.getuid?.() === 0)('as root', () => {
  test('a missing program is installed with apt', { timeout: TIMEOUT }, async () => {
    const programs = folder();
    const put = (name: string, ...lines: string[]): void =>
      writeFileSync(join(programs, name), ['#!/bin/sh', ...lines].join('\n'), { mode: 0o755 });
    put(
      'apt-get',
      `echo "$@" >> ${programs}/asked`,
      `[ "$1" = update ] || { echo '#!/bin/sh' > ${programs}/redis-server && /bin/chmod 755 ${programs}/redis-server; }`,
    );
    const notes: string[] = [];
    const found = await ensureProgram(['redis-server', 'valkey-server'], 'redis', (line) => notes.push(line), programs);
    expect(found).toBe(join(programs, 'redis-server'));
    expect(notes).toEqual(['redis is missing: installing it with apt-get']);
    expect(readFileSync(join(programs, 'asked'), 'utf8')).toMatch(/^update -qq\ninstall -y .* redis\n$/);
  });

  test('PostgreSQL, which refuses to run as root, says what is needed where nothing can step down', {
    timeout: TIMEOUT,
  }, async () => {
    const stack = await startStack(folder(), { PATH: folder(), REDIS_URL: 'redis://somewhere.else' });
    expect(await stack.exit).toBe(1);
    expect(stack.output()).toMatch(/PostgreSQL refuses to run as root[\s\S]*DATABASE_URL=/);
  });
});

describe('a folder that cannot be written is named', () => {
  test('by the launcher: the repository', { timeout: TIMEOUT }, async () => {
    const root = folder();
    const launcher = join(root, 'packages', 'dev-stack', 'launch.mjs');
    mkdirSync(join(root, 'packages', 'dev-stack'), { recursive: true });
    cpSync(fileURLToPath(new URL('../launch.mjs', import.meta.url)), launcher);
    chmodSync(root, 0o555);
    // Runs before the folder is removed, which whoever is not root could not do as it is.
    onTestFinished(() => chmodSync(root, 0o755));
    const run = await asNobodySpecial([launcher, 'start']);
    expect(await run.exit).toBe(1);
    expect(run.output()).toContain(`The folder ${root} cannot be written by`);
    expect(run.output()).toContain('clone somewhere you may write');
    expect(run.output()).not.toMatch(/\n\s+at /);
  });

  test('by the start: the state folder', { timeout: TIMEOUT }, async () => {
    // A file where the folder should be stops root, too.
    const state = join(folder(), 'state');
    writeFileSync(state, '');
    const stack = await startStack(join(state, 'below'));
    expect(await stack.exit).toBe(1);
    expect(stack.output()).toContain(`The folder ${join(state, 'below')} cannot be written`);
  });
});

describe('a half-initialised data folder', () => {
  test('that is not ours to repair is named, left alone, and --fresh is the way out', {
    timeout: TIMEOUT,
  }, async () => {
    const state = folder();
    const data = join(state, 'postgres');
    mkdirSync(data);
    writeFileSync(join(data, 'PG_VERSION'), '18\n');
    const stack = await startStack(state);
    expect(await stack.exit).toBe(1);
    expect(stack.output()).toContain(`The database folder ${data} is only half there`);
    expect(stack.output()).toContain('npm start -- --fresh');
    expect(readdirSync(data)).toEqual(['PG_VERSION']);

    const fresh = await startStack(state, {}, '--fresh');
    await fresh.says('Latchkey is running');
    fresh.child.kill('SIGINT');
    expect(await fresh.exit).toBe(0);
  });

  test('of our own interrupted start is made again, and that is said', { timeout: TIMEOUT }, async () => {
    const state = folder();
    mkdirSync(join(state, 'postgres.partial', 'base'), { recursive: true });
    const stack = await startStack(state);
    await stack.says('Latchkey is running');
    expect(stack.output()).toContain('an earlier start was interrupted');
    expect(existsSync(join(state, 'postgres.partial'))).toBe(false);
    stack.child.kill('SIGINT');
    expect(await stack.exit).toBe(0);
  });
});

test('an address of IPv6 to listen on is asked for in brackets', { timeout: TIMEOUT }, async () => {
  const stack = await startStack(folder(), { HOST: '::1' });
  await stack.says('Latchkey is running');
  const worker = await fetch(`http://[::1]:${stack.env.WORKER_PORT}/env`);
  expect(await worker.json()).toMatchObject({ BOARD_API_URL: `http://[::1]:${stack.env.API_PORT}` });
  stack.child.kill('SIGINT');
  expect(await stack.exit).toBe(0);
});

test('a second start in one folder says who has it and harms nothing', { timeout: TIMEOUT }, async () => {
  const state = folder();
  const first = await startStack(state);
  await first.says('Latchkey is running');
  const second = await startStack(state, {}, '--fresh');
  expect(await second.exit).toBe(1);
  expect(second.output()).toContain(`npm start already runs in this folder (pid ${first.child.pid})`);
  expect((await fetch(`http://127.0.0.1:${first.env.API_PORT}/readyz`)).status).toBe(200);
  first.child.kill('SIGINT');
  expect(await first.exit).toBe(0);
});

test('a start right after a killed one waits for what is left of it', {
  timeout: TIMEOUT,
}, async () => {
  const state = folder();
  const killed = await startStack(state);
  await killed.says('Latchkey is running');
  const left = descendants(killed.child.pid ?? Number.NaN);
  // Something that takes its time to end.
  await fetch(`http://127.0.0.1:${killed.env.API_PORT}/deaf`);
  // Its end does not begin before the next start has met it.
  const reaper = left.find(({ pid }) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('reaper.ts'));
  const signalReaper = (signal: NodeJS.Signals) => reaper && isRunning(reaper) && process.kill(reaper.pid, signal);
  onTestFinished(() => void signalReaper('SIGCONT'));
  signalReaper('SIGSTOP');
  killed.child.kill('SIGKILL');
  const next = await startStack(state);
  await next.says('waiting for an earlier run, which was killed');
  signalReaper('SIGCONT');
  await next.says('Latchkey is running');
  expect(left.filter(isRunning)).toEqual([]);
  next.child.kill('SIGINT');
  expect(await next.exit).toBe(0);
});

test('a set URL is used instead of the embedded part, and every variable is passed on', {
  timeout: TIMEOUT,
}, async () => {
  const given = {
    DATABASE_URL: 'postgresql://somewhere/else',
    REDIS_URL: 'redis://somewhere.else',
    SMTP_URL: 'smtp://somewhere.else',
    PUBLIC_URL: 'https://auth.example',
    MASTER_KEY: 'given',
    ACCESS_TOKEN_TTL: '7',
  };
  const stack = await startStack(folder(), given);
  await stack.says('Ctrl-C stops everything');
  const [api, worker] = await Promise.all(['API_PORT', 'WORKER_PORT'].map((name) => environmentOf(stack, name)));
  expect(api).toMatchObject({ ...given, PORT: stack.env.API_PORT });
  expect(worker).toMatchObject({ ...given, PORT: stack.env.WORKER_PORT, MAIL_FROM: expect.stringContaining('@') });
  expect(stack.output()).not.toContain('✓ PostgreSQL');
  // The reaper and the two apps.
  expect(descendants(stack.child.pid ?? Number.NaN)).toHaveLength(3);
});

test('secrets are made once, kept by a restart, and made anew by --fresh', { timeout: TIMEOUT }, async () => {
  const state = folder();
  const seen: unknown[] = [];
  for (const options of [[], [], ['--fresh']]) {
    const stack = await startStack(state, {}, ...options);
    await stack.says('Latchkey is running');
    seen.push((await environmentOf(stack, 'API_PORT')).MASTER_KEY);
    expect(statSync(join(state, 'state.json')).mode & 0o077).toBe(0);
    stack.child.kill('SIGINT');
    expect(await stack.exit).toBe(0);
  }
  expect(Buffer.from(String(seen[0]), 'base64')).toHaveLength(32);
  expect(seen[1]).toBe(seen[0]);
  expect(seen[2]).not.toBe(seen[0]);
});

test('an app that dies is named with its last lines, and everything stops with 1', { timeout: TIMEOUT }, async () => {
  const stack = await startStack(folder());
  await stack.says('Latchkey is running');
  await fetch(`http://127.0.0.1:${stack.env.WORKER_PORT}/die`).catch(() => undefined);
  expect(await stack.exit).toBe(1);
  expect(stack.output()).toContain('mailer-worker ended by itself (exit code 3)');
  expect(stack.output()).toContain('mailer-worker │ fatal: the last word');
  expect(stack.output()).toContain('Everything is stopped');
});

test('every wrong variable is named at once', () => {
  const wrong = { API_PORT: 'http', WORKER_PORT: '70000', PUBLIC_URL: 'nowhere' };
  expect(() => readStackSettings(wrong)).toThrow(/API_PORT[\s\S]*WORKER_PORT[\s\S]*PUBLIC_URL/);
  expect(() => readStackSettings({ API_PORT: '4000', INBOX_PORT: '4000' })).toThrow('three different ports');
});

/** What the stand-in on this port was told. */
async function environmentOf(stack: StackUnderTest, port: string): Promise<Record<string, unknown>> {
  return (await (await fetch(`http://127.0.0.1:${stack.env[port]}/env`)).json()) as Record<string, unknown>;
}

/** Root may write anywhere, so the test steps down where it runs as root. */
function asNobodySpecial(args: readonly string[]): ReturnType<typeof start> {
  // The machine's Node may lie where only root may go: the capability to search folders stays, the one to write does not.
  const stepDown = ['--securebits=+no_setuid_fixup', '--reuid=65534', '--regid=65534', '--clear-groups'];
  const search = ['--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search'];
  return process.getuid?.() === 0
    ? start('setpriv', [...stepDown, ...search, process.execPath, ...args], { HOME: inheritedEnvironment().HOME })
    : start(process.execPath, args);
}

test('a start tells its parts and how long they took, then what to do next', { timeout: TIMEOUT }, async () => {
  const state = folder();
  const stack = await startStack(state, { DEV_CLIENT_ID: 'mine', DEV_CLIENT_SECRET: 'known' });
  await stack.says('Ctrl-C stops everything');
  for (const part of ['PostgreSQL', 'Redis', 'mail catcher', 'database up to date', 'auth-api', 'mailer-worker']) {
    expect(stack.output()).toMatch(new RegExp(`✓ ${part}.* \\(\\d+\\.\\d\\d s\\)`));
  }
  const { API_PORT, INBOX_PORT } = stack.env;
  for (const said of [
    `http://localhost:${API_PORT}/docs`,
    `http://localhost:${INBOX_PORT}`,
    'mine  known',
    'curl -s',
  ]) {
    expect(stack.output()).toContain(said);
  }
  stack.child.kill('SIGTERM');
  expect(await stack.exit).toBe(0);
  rmSync(state, { recursive: true });
});
