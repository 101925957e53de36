#!/usr/bin/env node
/** The process: words and environment in, exit code out. */
import { createInterface } from 'node:readline/promises';
import { run } from './run.ts';

async function ask(question: string): Promise<boolean> {
  // The question goes where messages go: the output may be read by a program.
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await lines.question(question)).trim() === 'yes';
  } finally {
    lines.close();
  }
}

process.exitCode = await run(process.argv.slice(2), process.env, {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  confirm: process.stdin.isTTY ? ask : undefined,
});
