/** The one reader of the command line's environment. */
import { Failure } from './failure.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** @throws {Failure} naming what is missing. */
function required<Name extends string>(env: Environment, names: readonly Name[], why: string): Record<Name, string> {
  const missing = names.filter((name) => !env[name]);
  if (missing.length > 0) throw new Failure('usage', `${missing.join(', ')} must be set: ${why}`);
  return Object.fromEntries(names.map((name) => [name, env[name]])) as Record<Name, string>;
}

/** Where the API is and who calls it. @throws {Failure} */
export function apiSettings(env: Environment) {
  const { LATCHKEY_URL, LATCHKEY_CLIENT_ID, LATCHKEY_CLIENT_SECRET } = required(
    env,
    ['LATCHKEY_URL', 'LATCHKEY_CLIENT_ID', 'LATCHKEY_CLIENT_SECRET'],
    'the address of auth-api, and a client with scope admin (latchkey client create makes one)',
  );
  const url = URL.parse(LATCHKEY_URL);
  if (url?.username !== '' || url.password !== '')
    throw new Failure('usage', 'LATCHKEY_URL must be a URL without user and password');
  return { url: LATCHKEY_URL.replace(/\/+$/, ''), id: LATCHKEY_CLIENT_ID, secret: LATCHKEY_CLIENT_SECRET };
}

/** @throws {Failure} */
export const databaseUrl = (env: Environment): string =>
  required(env, ['DATABASE_URL'], 'clients and imported users are written to the database itself').DATABASE_URL;
