/** Accounts and clients to measure with, made without the API's help. */
import { hash, randomBytes } from 'node:crypto';
import { hashSync } from '@node-rs/argon2';
import { ask, type Client, type Stand } from './stand.ts';

export const PASSWORD = 'correct horse battery staple';

/** As auth-api makes it: a cheaper one would be made anew at the first login. */
const ARGON2ID = { algorithm: 2, memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;

export type Session = { readonly access_token: string; readonly refresh_token: string; readonly expires_in: number };
export type TokenFormat = 'jwt' | 'opaque';

/** Logins under way while sessions are made: below the length of auth-api's queue for hashes on any machine. */
const LOGINS_AT_ONCE = 16;

/** Adds activated users. @returns their addresses. */
export async function addUsers(stand: Stand, count: number): Promise<string[]> {
  const { rows } = await stand.database.query<{ email: string }>(
    `INSERT INTO users (id, email, email_key, status, password_hash, locale, activated_at)
     SELECT id, 'user-' || id || '@example.test', 'user-' || id || '@example.test', 'active', $2, 'en', now()
     FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $1::int)) AS new
     RETURNING email`,
    [count, hashSync(PASSWORD, ARGON2ID)],
  );
  return rows.map(({ email }) => email);
}

/** The body of a login. */
export function credentials(email: string): string {
  return JSON.stringify({ email, password: PASSWORD });
}

/** One more session of a user. @param device What a device says of itself. */
export function logIn(
  { api }: Stand,
  email: string,
  format: TokenFormat,
  device?: { readonly name: string; readonly userAgent: string },
): Promise<Session> {
  return ask<Session>(`${api.url}/v1/tokens`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(device && { 'user-agent': device.userAgent }) },
    body: JSON.stringify({
      email,
      password: PASSWORD,
      token_format: format,
      ...(device && { device_name: device.name }),
    }),
  });
}

/** New users with one session each. */
export async function openSessions(stand: Stand, count: number, format: TokenFormat = 'jwt'): Promise<Session[]> {
  const emails = await addUsers(stand, count);
  const sessions: Session[] = [];
  const logInNext = async (): Promise<void> => {
    for (let email = emails.pop(); email !== undefined; email = emails.pop()) {
      sessions.push(await logIn(stand, email, format));
    }
  };
  await Promise.all(Array.from({ length: LOGINS_AT_ONCE }, logInNext));
  return sessions;
}

/** A new client with these scopes. */
export async function addClient({ database }: Stand, ...scopes: string[]): Promise<Client> {
  const client = { id: `client-${randomBytes(6).toString('hex')}`, secret: randomBytes(32).toString('base64url') };
  await database.query('INSERT INTO clients (id, secret_hash, scopes) VALUES ($1, $2, $3)', [
    client.id,
    hash('sha256', client.secret, 'buffer'),
    scopes,
  ]);
  return client;
}

/** Its `Authorization`; neither part needs to be encoded. */
export const basic = ({ id, secret }: Client): string => `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`;

/** A token for the client itself. */
export async function clientToken({ api }: Stand, client: Client): Promise<string> {
  const { access_token: token } = await ask<{ access_token: string }>(`${api.url}/oauth/token`, {
    method: 'POST',
    headers: { authorization: basic(client) },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  });
  return token;
}
