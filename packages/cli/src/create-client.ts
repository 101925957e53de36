/** A client is made in the database itself: the first one has nobody it could ask. */
import { hash, randomBytes } from 'node:crypto';
import { UUID_PATTERN } from '@latchkey/shared/uuid';
import { operatorName, withDatabase } from './database.ts';
import { Failure } from './failure.ts';

/** A user's id has this form: a client's must not, or a token of one could pass for a token of the other (RFC 9068 section 5). */
const USER_ID = new RegExp(UUID_PATTERN, 'i');
const CLIENT_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** RFC 6749 section 3.3 */
const SCOPE = /^[\x21\x23-\x5B\x5D-\x7E]{1,100}$/;
/** The scope of a user who logged in. */
const USER_SCOPE = 'account';

/** SQLSTATE unique_violation */
const REFUSED = { '23505': 'there is a client of this id already; a revoked one keeps its id' };

/**
 * Makes it and records that in one statement.
 * @returns the secret; only its SHA-256 is kept.
 * @throws {Failure}
 */
export async function createClient(databaseUrl: string, id: string, scopes: readonly string[]): Promise<string> {
  if (!CLIENT_ID.test(id) || USER_ID.test(id))
    throw new Failure('usage', 'A client id has 1 to 64 letters, digits, dots, dashes and underscores and is no UUID');
  for (const scope of scopes)
    if (!SCOPE.test(scope) || scope === USER_SCOPE) throw new Failure('usage', `${scope} can't be a scope of a client`);
  const secret = randomBytes(32).toString('base64url');
  await withDatabase(databaseUrl, REFUSED, (client) =>
    client.query(
      `WITH created AS (
         INSERT INTO clients (id, secret_hash, scopes) VALUES ($1, $2, $3) RETURNING id
       )
       INSERT INTO audit_events (type, actor_type, actor_id, details)
       SELECT 'client.created', 'operator', $4, jsonb_build_object('client_id', id, 'scopes', to_jsonb($3::text[])) FROM created`,
      [id, hash('sha256', secret, 'buffer'), scopes, operatorName()],
    ),
  );
  return secret;
}
