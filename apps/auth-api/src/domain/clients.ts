/** Clients: who they are, the tokens they get for themselves, and their end. */
import { hash, timingSafeEqual } from 'node:crypto';
import { createBoundedMap } from '@latchkey/verifier/bounded-map';
import type { Epoch, RevocationCopy } from '@latchkey/verifier/revocation-copy';
import type { Env } from '../env.ts';
import { Problem } from '../problems.ts';
import type { AuditActor } from '../store/audit.ts';
import type { ClientRecord, ClientStore, StoredClient } from '../store/clients.ts';
import { knownEpoch, type RevocationLog } from '../store/revocation-log.ts';
import { clientTokenClaims } from './access-token.ts';
import type { Audit } from './audit.ts';
import { LATEST } from './instants.ts';
import type { RequestContext } from './request-context.ts';
import type { SigningKeys } from './signing-keys.ts';

export interface ClientCredentials {
  id: string;
  secret: string;
}

/** The same as a request brings them. */
export interface PresentedCredentials {
  /** The header, as it came. */
  authorization: string;
  /** What it says. @throws {Problem} `invalid_client` */
  read: () => ClientCredentials;
}

export type Clients = ReturnType<typeof createClients>;

export interface ClientsOptions {
  store: ClientStore;
  log: RevocationLog;
  copy: RevocationCopy;
  signingKeys: SigningKeys;
  audit: Audit;
  env: Pick<Env, 'PUBLIC_URL' | 'TOKEN_AUDIENCE' | 'ACCESS_TOKEN_TTL'>;
}

const sha256 = (secret: string): Buffer => hash('sha256', secret, 'buffer');

/** What an unknown id is compared with, so that it costs the same. No secret has this hash. */
const NO_HASH = Buffer.alloc(32);

/** Milliseconds for which a client that only asks is not read again: the log names a revoked one at once, and for much longer. */
const KEPT_FOR = 10_000;
/** Headers of clients that are remembered: far more than there are clients that ask often. */
const MOST_PROVEN = 1000;

/** A name of another form is nobody's, and is not looked up. */
const ID = /^[\x20-\x7E]{1,128}$/;

export function createClients({ store, log, copy, signingKeys, audit, env }: ClientsOptions) {
  const lifetimes = { issuer: env.PUBLIC_URL, audience: env.TOKEN_AUDIENCE, ttl: env.ACCESS_TOKEN_TTL };

  /** Live clients as they were read in an epoch: with another one their revocations may be lost. */
  const kept = new Map<string, { client: StoredClient; epoch: Epoch; until: number }>();

  /** By each `Authorization` that was right, the client as it was read then: good for as long as it is the one that is kept. */
  const proven = createBoundedMap<StoredClient>(MOST_PROVEN);

  /** From memory, if the log says nothing against it. @throws what {@link knownEpoch} does. */
  async function findKept(id: string): Promise<StoredClient | undefined> {
    const epoch = knownEpoch(copy);
    const known = kept.get(id);
    const revoked = copy.denies({ userId: id, sessionId: id, issuedAt: epoch.born });
    if (known?.epoch === epoch && performance.now() < known.until && !revoked) return known.client;
    const until = performance.now() + KEPT_FOR;
    const client = await store.find(id);
    if (client && client.revokedAt === null) kept.set(id, { client, epoch, until });
    else kept.delete(id);
    return client;
  }

  async function authenticate({ id, secret }: ClientCredentials, find = store.find): Promise<StoredClient> {
    const client = ID.test(id) ? await find(id) : undefined;
    const known = client?.secretHash.length === NO_HASH.length ? client.secretHash : NO_HASH;
    const matches = timingSafeEqual(sha256(secret), known);
    if (!client || !matches || client.revokedAt !== null) throw new Problem('invalid_client');
    return client;
  }

  /** When a token is issued: not before the epoch, whatever a clock says. */
  const now = async () => Math.max(await store.clock(), knownEpoch(copy).born);

  return {
    list: store.list,

    /** @throws {Problem} `invalid_client` alike for an unknown id, a wrong secret and a revoked client. */
    authenticate: (credentials: ClientCredentials) => authenticate(credentials),

    /**
     * The same for a client that calls with each request of others: it is read, and its secret hashed, only now and then; its revocation is
     * known as it happens.
     */
    async authenticateCached({ authorization, read }: PresentedCredentials): Promise<ClientRecord> {
      const known = proven.get(authorization);
      if (known && (await findKept(known.id)) === known) return known;
      // Read anew, or revoked: a secret is remembered for no longer than it is good.
      proven.delete(authorization);
      const client = await authenticate(read(), findKept);
      proven.set(authorization, client);
      return client;
    },

    /**
     * RFC 6749 section 4.4: a token for the client itself.
     * @param credentials proven here and not before: the clock is read first, so that a revocation either is seen or cuts the token off.
     * @param asked scopes separated by spaces; undefined: all the client has.
     * @throws {Problem} `invalid_client`, `invalid_scope`.
     */
    async issueToken(
      credentials: ClientCredentials,
      asked: string | undefined,
      context: RequestContext,
    ): Promise<{ accessToken: string; expiresIn: number; scope: string }> {
      log.assertAnnounced();
      const issuedAt = await now();
      const client = await authenticate(credentials);
      const scopes = asked === undefined ? client.scopes : [...new Set(asked.split(' '))];
      if (!scopes.every((scope) => client.scopes.includes(scope)))
        throw new Problem('invalid_scope', { detail: 'The client does not have every scope asked for' });
      const scope = scopes.join(' ');
      const claims = clientTokenClaims({ clientId: client.id, scope, issuedAt }, lifetimes);
      const accessToken = await signingKeys.sign(claims);
      const actor = { type: 'client', id: client.id } as const;
      const details = { client_id: client.id, scope, jti: claims.jti };
      audit.note({ type: 'client.token_issued', actor, userId: null, context, details });
      return { accessToken, expiresIn: env.ACCESS_TOKEN_TTL, scope };
    },

    /** Whether a token issued to this client may still stand for it. */
    async isLive(id: string): Promise<boolean> {
      const client = await store.find(id);
      return client !== undefined && client.revokedAt === null;
    },

    /**
     * No token is issued to it any more, and those it has are refused everywhere. May be repeated.
     * @throws {Problem} `client_unknown`
     */
    async revoke(id: string, actor: AuditActor, context: RequestContext): Promise<void> {
      const event = { type: 'client.revoked', actor, userId: null, context, details: { client_id: id } } as const;
      if (!ID.test(id) || !(await store.revoke(id, event))) throw new Problem('client_unknown');
      // After the row is written: whatever was issued before, by whatever clock, a revoked client never comes back. (The line stays as
      // long as a token of now, not for ever.)
      await log.cutOff(id, LATEST, await now());
    },
  };
}
