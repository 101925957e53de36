/** What a command is. */
import type { Environment } from './environment.ts';

/** What a command has to tell: `data` for programs, `text` for people. */
export interface Result {
  data: unknown;
  text: string;
  /** Why it ends as refused all the same: some of what was asked was not done. */
  incomplete?: string;
}

interface Call {
  argument: string;
  options: Readonly<Record<string, string | undefined>>;
  /** Those that were given. */
  flags: ReadonlySet<string>;
  env: Environment;
}

export interface Command {
  /** Name of its one argument; undefined: none. */
  argument?: string;
  /** The argument may be left out; it is then the empty string. */
  optional?: true;
  summary: string;
  /** What else its help says. */
  details?: string;
  /** Name → what it means. They take a value. */
  options?: Readonly<Record<string, string>>;
  /** Name → what it means. They take none. */
  flags?: Readonly<Record<string, string>>;
  /** What can't be undone, as a person is asked about it. */
  irrevocable?: (argument: string) => string;
  run: (call: Call) => Promise<Result>;
}
