import { hash } from 'node:crypto';
import { withClient } from './pg-client.ts';

/** The scopes of the dev client (contract, "Commands"). */
export const DEV_CLIENT_SCOPES: readonly string[] = ['admin', 'introspect', 'revocations:read'];

/** Makes sure that this client exists, with this secret and the dev client's scopes, and is not revoked. */
export async function upsertDevClient(databaseUrl: string, id: string, secret: string): Promise<void> {
  await withClient(databaseUrl, (client) =>
    client.query(
      `INSERT INTO clients (id, secret_hash, scopes) VALUES ($1, $2, $3)
       ON CONFLICT (id) DO UPDATE SET secret_hash = excluded.secret_hash, scopes = excluded.scopes, revoked_at = NULL`,
      [id, hash('sha256', secret, 'buffer'), DEV_CLIENT_SCOPES],
    ),
  );
}
