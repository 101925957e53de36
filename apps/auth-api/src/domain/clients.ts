/** Clients: who they are, the tokens they get for themselves, and their end. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Env } from '../env.ts';
import { OAuthProblem, Problem } from '../problems.ts';
import type { AuditActor } from '../store/audit.ts';
import type { ClientRecord, ClientStore } from '../store/clients.ts';
import type { RevocationLog } from '../store/revocation-log.ts';
import { clientTokenClaims } from './access-token.ts';
import type { RequestContext } from './request-context.ts';
import type { SigningKeys } from './signing-keys.ts';

export interface ClientCredentials {
  id: string;
  secret: string;
}

export type Clients = ReturnType<typeof createClients>;

export interface ClientsOptions {
  store: ClientStore;
  log: RevocationLog;
  signingKeys: SigningKeys;
  env: Pick<Env, 'PUBLIC_URL' | 'TOKEN_AUDIENCE' | 'ACCESS_TOKEN_TTL'>;
}

const sha256 = (secret: string): Buffer => createHash('sha256').update(secret).digest();

/** What an unknown id is compared with, so that it costs the same. No secret has this hash. */
const NO_HASH = Buffer.alloc(32);

/** A name of another form is nobody's, and is not looked up. */
const ID = /^[\x20-\x7E]{1,128}$/;

export function createClients({ store, log, signingKeys, env }: ClientsOptions) {
  const lifetimes = { issuer: env.PUBLIC_URL, audience: env.TOKEN_AUDIENCE, ttl: env.ACCESS_TOKEN_TTL };

  async function authenticate({ id, secret }: ClientCredentials): Promise<ClientRecord> {
    const client = ID.test(id) ? await store.find(id) : undefined;
    const known = client?.secretHash.length === NO_HASH.length ? client.secretHash : NO_HASH;
    const matches = timingSafeEqual(sha256(secret), known);
    if (!client || !matches || client.revokedAt !== null) throw new OAuthProblem('invalid_client');
    return client;
  }

  return {
    list: store.list,

    /** @throws {OAuthProblem} `invalid_client` alike for an unknown id, a wrong secret and a revoked client. */
    authenticate,

    /**
     * RFC 6749 section 4.4: a token for the client itself.
     * @param credentials proven here and not before: the clock is read first, so that a revocation either is seen or cuts the token off.
     * @param asked scopes separated by spaces; undefined: all the client has.
     * @throws {OAuthProblem} `invalid_client`, `invalid_scope`.
     */
    async issueToken(
      credentials: ClientCredentials,
      asked: string | undefined,
    ): Promise<{ accessToken: string; expiresIn: number; scope: string }> {
      const issuedAt = await store.clock();
      const client = await authenticate(credentials);
      const scopes = asked === undefined ? client.scopes : [...new Set(asked.split(' '))];
      if (!scopes.every((scope) => client.scopes.includes(scope)))
        throw new OAuthProblem('invalid_scope', 'The client does not have every scope asked for');
      const scope = scopes.join(' ');
      const claims = clientTokenClaims({ clientId: client.id, scope, issuedAt }, lifetimes);
      return { accessToken: await signingKeys.sign(claims), expiresIn: env.ACCESS_TOKEN_TTL, scope };
    },

    /** Whether a token issued to this client may still stand for it. */
    async isLive(id: string): Promise<boolean> {
      const client = await store.find(id);
      return client !== undefined && client.revokedAt === null;
    },

    /**
     * No token is issued to it any more, and those it has are refused everywhere. May be repeated.
     * @param now milliseconds
     * @throws {Problem} `client_unknown`
     */
    async revoke(id: string, actor: AuditActor, context: RequestContext, now: number): Promise<void> {
      const event = { type: 'client.revoked', actor, userId: null, context, details: { client_id: id } } as const;
      if (!(await store.revoke(id, event))) throw new Problem('client_unknown');
      // After the row is written: a token that got past it was issued before this instant.
      await log.cutOff(id, await store.clock(), now);
    },
  };
}
