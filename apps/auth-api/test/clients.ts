/** Clients for suites: made in the database, as the command line makes them. */
import { hash, randomBytes } from 'node:crypto';
import pg from 'pg';
import type { TestApp } from './test-app.ts';

export interface TestClient {
  id: string;
  secret: string;
}

/** A new client with these scopes. */
export const addClient = (databaseUrl: string, ...scopes: string[]): Promise<TestClient> =>
  addClientAs(
    { id: `client-${randomBytes(6).toString('hex')}`, secret: randomBytes(32).toString('base64url') },
    databaseUrl,
    ...scopes,
  );

/** The same with an id and a secret of the test's choice. */
export async function addClientAs({ id, secret }: TestClient, databaseUrl: string, ...scopes: string[]) {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query('INSERT INTO clients (id, secret_hash, scopes) VALUES ($1, $2, $3)', [
      id,
      hash('sha256', secret, 'buffer'),
      scopes,
    ]);
  } finally {
    await client.end();
  }
  return { id, secret };
}

export const basic = ({ id, secret }: TestClient) =>
  `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64')}`;

/** Posts a form as a client. */
export const postForm = (api: TestApp, url: string, form: Record<string, string>, client?: TestClient) =>
  api.app.inject({
    method: 'POST',
    url,
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      ...(client && { authorization: basic(client) }),
    },
    payload: new URLSearchParams(form).toString(),
  });

/** @throws when it gets none. */
export async function clientToken(api: TestApp, client: TestClient, scope?: string): Promise<string> {
  const form = { grant_type: 'client_credentials', ...(scope !== undefined && { scope }) };
  const response = await postForm(api, '/oauth/token', form, client);
  if (response.statusCode !== 200) throw new Error(`/oauth/token answered ${response.statusCode} ${response.body}`);
  return response.json<{ access_token: string }>().access_token;
}
