#!/usr/bin/env node
/** The process: words and environment in, exit code out. */
import { createInterface } from 'node:readline/promises';
import { run } from './run.ts';

async function ask(question: string): Promise<boolean> {
  // The question goes where messages go: the output may be read by a program.
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  const closed = new AbortController();
  lines.once('close', () => closed.abort());
  try {
    return (await lines.question(question, { signal: closed.signal })).trim() === 'yes';
  } catch {
    // Ctrl-C, Ctrl-D, the end of the input: nobody said yes.
    return false;
  } finally {
    lines.close();
  }
}

process.exitCode = await run(process.argv.slice(2), process.env, {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  confirm: process.stdin.isTTY ? ask : undefined,
});
