/** What V8 is told, by what it does then. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { keepTickShape } from '../src/v8.ts';

const FLAGS = ['--expose-gc', '--allow-natives-syntax', '--max-semi-space-size=1'];

async function placed(...told: string[]): Promise<string> {
  const program = join(import.meta.dirname, 'fixtures/placed.ts');
  const { stdout } = await promisify(execFile)(process.execPath, [...FLAGS, program, ...told]);
  return stdout;
}

test('objects whose like survived are placed with the young, once V8 is told', async () => {
  expect(await placed()).toBe('old');
  expect(await placed('told')).toBe('young');
});

test('the shape of what nextTick makes outlives every collection', async () => {
  setFlagsFromString('--expose-gc');
  setFlagsFromString('--allow-natives-syntax');
  const collect = runInNewContext('gc') as () => void;
  const sameShape = new Function('one', 'other', 'return %HaveSameMap(one, other)');

  const callback = (tick: object | undefined) => Reflect.get(tick ?? {}, 'callback');
  const first = new WeakRef(keepTickShape() ?? {});
  await new Promise<void>((resolve) => setImmediate(resolve));
  for (let times = 0; times < 4; times += 1) collect();

  expect(callback(first.deref())).toBeTypeOf('function');
  expect(sameShape(first.deref(), keepTickShape())).toBe(true);
});
