/** What the command line says of itself. */
import { type Command, commands } from './commands.ts';

const usage = (name: string, { argument }: Command) => `${name}${argument === undefined ? '' : ` <${argument}>`}`;

const columns = (rows: readonly (readonly [string, string])[]): string => {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join('\n');
};

const COMMON = [
  ['--json', 'print JSON, for programs'],
  ['--yes', "don't ask before what can't be undone"],
  ['--help', 'this'],
] as const;

export const overview = (): string => `latchkey: the operator's command line

${columns(Object.entries(commands).map(([name, command]) => [usage(name, command), command.summary]))}

${columns(COMMON)}

It calls auth-api at LATCHKEY_URL as the client LATCHKEY_CLIENT_ID with LATCHKEY_CLIENT_SECRET (scope admin).
client create alone writes to DATABASE_URL: the first client has nobody to ask.

Exit codes: 0 done, 1 refused, 2 wrong command line, environment or not confirmed, 3 not reachable.
`;

export const helpFor = (name: string, command: Command): string => `latchkey ${usage(name, command)}

${command.summary}

${columns([...Object.entries(command.options ?? {}).map(([option, means]) => [`--${option} <value>`, means] as const), ...COMMON])}
`;
