/** One command line, from its words to its exit code. */
import { parseArgs } from 'node:util';
import type { Command } from './command.ts';
import { commands } from './commands.ts';
import type { Environment } from './environment.ts';
import { EXIT, Failure } from './failure.ts';
import { helpFor, overview } from './help.ts';

export interface Terminal {
  out: (text: string) => void;
  err: (text: string) => void;
  /** Asks a person; undefined: nobody is there to ask. */
  confirm: ((question: string) => Promise<boolean>) | undefined;
}

/** @returns the exit code. */
export async function run(words: readonly string[], env: Environment, terminal: Terminal): Promise<number> {
  try {
    await dispatch(words, env, terminal);
    return EXIT.done;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    terminal.err(`latchkey: ${error.message}\n`);
    return error.exit;
  }
}

async function dispatch(words: readonly string[], env: Environment, terminal: Terminal): Promise<void> {
  // `pnpm latchkey -- client list` hands the dashes on.
  const given = words[0] === '--' ? words.slice(1) : words;
  const name = given.slice(0, 2).join(' ');
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!command) {
    if (given.length === 0 || given.includes('--help') || given[0] === 'help') return terminal.out(overview());
    throw new Failure('usage', `${name} is no command; latchkey --help lists them`);
  }
  const { values, positionals } = parsed(command, given.slice(2));
  if (values.help === true) return terminal.out(helpFor(name, command));
  const argument = argumentOf(name, command, positionals);
  if (command.irrevocable && values.yes !== true) await confirm(command.irrevocable(argument), terminal);
  const options = Object.fromEntries(
    Object.entries<unknown>(values).flatMap(([option, value]) => (typeof value === 'string' ? [[option, value]] : [])),
  );
  const flags = new Set(Object.keys(values).filter((name) => Reflect.get(values, name) === true));
  const { data, text, incomplete } = await command.run({ argument, options, flags, env });
  terminal.out(values.json === true ? `${JSON.stringify(data, undefined, 2)}\n` : `${text}\n`);
  if (incomplete !== undefined) throw new Failure('refused', incomplete);
}

/** @throws {Failure} */
function argumentOf(name: string, { argument, optional }: Command, positionals: readonly string[]): string {
  const most = argument === undefined ? 0 : 1;
  const least = optional ? 0 : most;
  if (positionals.length < least || positionals.length > most)
    throw new Failure('usage', `${name} wants ${most === 0 ? 'no argument' : `one argument: <${argument}>`}`);
  return positionals[0] ?? '';
}

function parsed(command: Command, args: string[]) {
  const options: Record<string, { type: 'string' | 'boolean' }> = {};
  for (const name of Object.keys(command.options ?? {})) options[name] = { type: 'string' };
  for (const name of [...Object.keys(command.flags ?? {}), 'json', 'yes', 'help']) options[name] = { type: 'boolean' };
  try {
    return parseArgs({ args, allowPositionals: true, options });
  } catch (error) {
    throw new Failure('usage', error instanceof Error ? error.message : String(error));
  }
}

/** @throws {Failure} unless a person says yes. */
async function confirm(warning: string, { confirm: ask }: Terminal): Promise<void> {
  if (!ask) throw new Failure('usage', `${warning} This can't be undone: say --yes`);
  if (!(await ask(`${warning} This can't be undone. Type yes to go on: `)))
    throw new Failure('usage', 'not confirmed, nothing was done');
}
