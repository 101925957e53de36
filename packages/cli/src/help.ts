/** What the command line says of itself. */
import type { Command } from './command.ts';
import { commands } from './commands.ts';

function usage(name: string, { argument, optional }: Command): string {
  if (argument === undefined) return name;
  return optional ? `${name} [${argument}]` : `${name} <${argument}>`;
}

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
client create and user import write to DATABASE_URL: the first client has nobody to ask, and a hash has no way in by the API.

Exit codes: 0 done, 1 refused, 2 wrong command line, environment or not confirmed, 3 not reachable.
`;

export const helpFor = (name: string, command: Command): string => `latchkey ${usage(name, command)}

${command.summary}
${command.details === undefined ? '' : `\n${command.details}\n`}
${columns([
  ...Object.entries(command.options ?? {}).map(([option, means]) => [`--${option} <value>`, means] as const),
  ...Object.entries(command.flags ?? {}).map(([flag, means]) => [`--${flag}`, means] as const),
  ...COMMON,
])}
`;
