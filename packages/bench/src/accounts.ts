/** Accounts to measure with, made without the API's help. */
import { hashSync } from '@node-rs/argon2';
import { ask, type Stand } from './stand.ts';

export const PASSWORD = 'correct horse battery staple';

/** What a login has to work for. `full`: argon2id as auth-api makes it. `cheap`: the least argon2id, where the login is only the way to a session. */
export type HashCost = 'full' | 'cheap';

const COSTS = {
  full: { algorithm: 2, memoryCost: 19_456, timeCost: 2, parallelism: 1 },
  cheap: { algorithm: 2, memoryCost: 8, timeCost: 1, parallelism: 1 },
} as const;

export type Session = { readonly access_token: string; readonly refresh_token: string };

/** Logins under way while sessions are made: below the length of auth-api's queue for hashes on any machine. */
const LOGINS_AT_ONCE = 16;

/** Adds activated users. @returns their addresses. */
export async function addUsers(stand: Stand, count: number, cost: HashCost): Promise<string[]> {
  const { rows } = await stand.database.query<{ email: string }>(
    `INSERT INTO users (id, email, email_key, status, password_hash, locale, activated_at)
     SELECT id, 'user-' || id || '@example.test', 'user-' || id || '@example.test', 'active', $2, 'en', now()
     FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $1::int)) AS new
     RETURNING email`,
    [count, hashSync(PASSWORD, COSTS[cost])],
  );
  return rows.map(({ email }) => email);
}

/** The body of a login. */
export function credentials(email: string): string {
  return JSON.stringify({ email, password: PASSWORD });
}

/** New users with one session each. */
export async function openSessions(stand: Stand, count: number): Promise<Session[]> {
  const emails = await addUsers(stand, count, 'cheap');
  const sessions: Session[] = [];
  const logIn = async (): Promise<void> => {
    for (let email = emails.pop(); email !== undefined; email = emails.pop()) {
      const body = credentials(email);
      const headers = { 'content-type': 'application/json' };
      sessions.push(await ask<Session>(`${stand.api.url}/v1/tokens`, { method: 'POST', headers, body }));
    }
  };
  await Promise.all(Array.from({ length: LOGINS_AT_ONCE }, logIn));
  return sessions;
}
