import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { identify, isRunning } from '../src/process-identity.ts';
import {
  allGone,
  descendants,
  folder,
  type StackUnderTest,
  standInStack,
  start,
  startStack,
} from './stack-under-test.ts';

const TIMEOUT = 60_000;
/** PostgreSQL with at least three of its own, Redis, two apps, the reaper. */
const AT_LEAST = 8;

const ready = async (stack: StackUnderTest): Promise<void> => stack.says('Latchkey is running');

describe('nothing is left running', () => {
  test('after kill -9 of the parent', { timeout: TIMEOUT }, async () => {
    const stack = await startStack(folder());
    await ready(stack);
    const all = descendants(pidOf(stack));
    expect(all.length).toBeGreaterThanOrEqual(AT_LEAST);
    stack.child.kill('SIGKILL');
    await allGone(all);
  });

  test('after a crash of the parent', { timeout: TIMEOUT }, async () => {
    const stack = await startStack(folder());
    await ready(stack);
    const all = descendants(pidOf(stack));
    expect(all.length).toBeGreaterThanOrEqual(AT_LEAST);
    stack.child.kill('SIGUSR2');
    await allGone(all);
    expect(stack.output()).toContain('Error: a crash');
  });

  test('after Ctrl-C, which stops the apps first and ends with 0', { timeout: TIMEOUT }, async () => {
    const stack = await startStack(folder());
    await ready(stack);
    const all = descendants(pidOf(stack));
    interrupt(stack);
    expect(await stack.exit).toBe(0);
    await allGone(all);
    expect(stack.output()).toMatch(/apps drained[\s\S]*Everything is stopped/);
  });

  test('after Ctrl-C in the middle of the first start', { timeout: TIMEOUT }, async () => {
    const stack = await startStack(folder());
    await stack.says('Latchkey is starting');
    // initdb or PostgreSQL: whatever comes first.
    while (descendants(pidOf(stack)).length < 2) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    const all = descendants(pidOf(stack));
    interrupt(stack);
    expect(await stack.exit).toBe(0);
    await allGone(all);
  });

  test('of a child whose parent was killed before its next line of code', { timeout: TIMEOUT }, async () => {
    const processes = fileURLToPath(new URL('../src/processes.ts', import.meta.url));
    const script = `import { startProcess } from ${JSON.stringify(processes)};
      const { pid } = startProcess({ command: 'sleep', args: ['600'], env: process.env, endSignal: 'SIGTERM', output: 'inherit' });
      (await import('node:fs')).writeSync(1, String(pid));
      process.kill(process.pid, 'SIGKILL');`;
    const parent = await start(process.execPath, ['--input-type=module', '-e', script]);
    await parent.exit;
    const child = identify(Number(parent.output()));
    await allGone(child === undefined ? [] : [child]);
    expect(Number(parent.output())).toBeGreaterThan(0);
  });

  test('of a child that does not listen', { timeout: TIMEOUT }, async () => {
    const processes = fileURLToPath(new URL('../src/processes.ts', import.meta.url));
    const script = `import { startProcess } from ${JSON.stringify(processes)};
      startProcess({ command: 'sh', args: ['-c', 'trap "" TERM; echo deaf; while :; do sleep 1; done'], env: process.env, endSignal: 'SIGTERM', output: 'inherit' });`;
    const parent = await start(process.execPath, ['--input-type=module', '-e', script]);
    await parent.says('deaf');
    const all = descendants(pidOf(parent));
    expect(all.length).toBeGreaterThanOrEqual(2);
    parent.child.kill('SIGKILL');
    await allGone(all);
  });
});

describe('nothing is left running of npm start', () => {
  test('after Ctrl-C, which npm, the shell and the launcher all get', { timeout: TIMEOUT }, async () => {
    const npm = await start('npm', ['start', '--prefix', repository()]);
    await ready(npm);
    const all = descendants(pidOf(npm));
    expect(all.length).toBeGreaterThanOrEqual(AT_LEAST + 2);
    interrupt(npm);
    // 0, or, where npm puts a shell between, null: the shell and npm have waited, then ended as interrupted programs do.
    expect([0, null]).toContain(await npm.exit);
    expect(npm.output()).toContain('Everything is stopped');
    expect(npm.output()).not.toContain('npm error');
    await allGone(all);
  });

  test('after Ctrl-C at the launcher, which ends with 0 once the stack has stopped', { timeout: TIMEOUT }, async () => {
    const launcher = await start(process.execPath, [
      join(repository(), 'packages', 'dev-stack', 'launch.mjs'),
      'start',
    ]);
    await ready(launcher);
    const all = descendants(pidOf(launcher));
    interrupt(launcher);
    expect(await launcher.exit).toBe(0);
    expect(launcher.output()).toContain('Everything is stopped');
    await allGone(all);
  });

  test('after kill -9 of npm', { timeout: TIMEOUT }, async () => {
    const npm = await start('npm', ['start', '--prefix', repository()]);
    await ready(npm);
    const all = descendants(pidOf(npm));
    npm.child.kill('SIGKILL');
    await allGone(all);
  });

  test('after kill -9 of the launcher', { timeout: TIMEOUT }, async () => {
    const root = repository();
    const launcher = await start(process.execPath, [join(root, 'packages', 'dev-stack', 'launch.mjs'), 'start']);
    await ready(launcher);
    const all = descendants(pidOf(launcher));
    launcher.child.kill('SIGKILL');
    await allGone(all);
  });
});

test('a process is known by its start, not by its pid alone', () => {
  const me = identify(process.pid);
  expect(me !== undefined && isRunning(me)).toBe(true);
  expect(isRunning({ pid: process.pid, startedAt: '1' })).toBe(false);
});

/** As a terminal does: to every process of the foreground group. */
function interrupt(stack: StackUnderTest): void {
  process.kill(-pidOf(stack), 'SIGINT');
}

function pidOf({ child }: StackUnderTest): number {
  return child.pid ?? Number.NaN;
}

/** A repository that is installed already, with the real launcher, whose `npm start` is the stand-in stack. */
function repository(): string {
  const root = folder();
  const put = (path: string, content: string): void => {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), content);
  };
  const scripts = { start: 'node packages/dev-stack/launch.mjs start' };
  put('package.json', JSON.stringify({ name: 'stand-in', private: true, packageManager: 'pnpm@12.0.0', scripts }));
  put('pnpm-lock.yaml', '');
  put('apps/.keep', '');
  put('node_modules/.pnpm/lock.yaml', '');
  put(
    'packages/dev-stack/src/start.ts',
    `process.argv[2] = ${JSON.stringify(join(root, 'state'))};\nawait import(${JSON.stringify(standInStack)});\n`,
  );
  put('packages/shared/src/generated/prisma/client.ts', '');
  mkdirSync(join(root, 'node_modules', '.bin'));
  symlinkSync(process.execPath, join(root, 'node_modules', '.bin', 'node'));
  cpSync(fileURLToPath(new URL('../launch.mjs', import.meta.url)), join(root, 'packages', 'dev-stack', 'launch.mjs'));
  return root;
}
