/**
 * Who calls: the access token of `Authorization: Bearer` (RFC 6750). A JWT is checked in memory by the verifier that others embed; an opaque
 * token is asked of the store.
 */
import type { IncomingMessage } from 'node:http';
import { VerifyError } from '@latchkey/verifier/errors';
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import type { Verifier } from '@latchkey/verifier/verifier';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { OPAQUE_PREFIX } from '../domain/opaque-token.ts';
import { USER_SCOPE } from '../domain/scopes.ts';
import { NotReady } from '../not-ready.ts';
import { Problem } from '../problems.ts';

/** Whom an access token stands for, whatever its format. */
export interface Caller {
  /** A user's id, or a client's. */
  sub: string;
  /** undefined: a client that acts for itself. */
  sid?: string | undefined;
  scope: string;
  /** Seconds; null: never expires. */
  exp: number | null;
}

/** The same as headers of the answer to a gateway. */
export function identityHeaders({ sub, sid, scope, exp }: Caller): Record<string, string> {
  return {
    'x-auth-user': sub,
    'x-auth-scope': scope,
    'cache-control': 'no-store',
    // A client acts for itself and has no session.
    ...(sid !== undefined && { 'x-auth-session': sid }),
    // Left out for a token that never expires.
    ...(exp !== null && { 'x-auth-token-expires': new Date(exp * 1000).toISOString() }),
  };
}

type UserCaller = Caller & { sid: string };

declare module 'fastify' {
  interface FastifyRequest {
    /**
     * Whom the caller's access token stands for; at once where nobody has to be asked.
     * @throws {Problem} `missing_token`, `invalid_token`, `session_revoked`, `dependency_unavailable`.
     */
    authenticateAnyone(): Caller | Promise<Caller>;
    /** The same, of a user. @throws {Problem} also `insufficient_scope` for a client. */
    authenticate(): Promise<UserCaller>;
    /** The same, of a client with this scope. @throws {Problem} also `insufficient_scope`. */
    authenticateClient(scope: string): Promise<Caller>;
    /** The same, for an answer that goes on and on. @returns whether the token would still be accepted. */
    authenticateListener(scope: string): Promise<() => boolean>;
  }
}

export interface BearerAuthOptions {
  verifier: Verifier;
  copy: RevocationCopy;
  /** Asks the store for an opaque token. */
  findOpaqueToken: (token: string, request: IncomingMessage) => Promise<Caller | undefined>;
}

export const bearerAuth = fp(
  async (app: FastifyInstance, { verifier, copy, findOpaqueToken }: BearerAuthOptions) => {
    async function byOpaqueToken(token: string, request: IncomingMessage): Promise<Caller> {
      const caller = await findOpaqueToken(token, request);
      if (!caller) throw new Problem('invalid_token');
      return caller;
    }

    const byJwt = (token: string): Promise<Caller> => verifier.verify(token).catch(refuse);

    function bySeenJwt(token: string): Caller | undefined {
      try {
        return verifier.verifySeen(token);
      } catch (error) {
        return refuse(error);
      }
    }

    /** At once where nobody has to be asked. */
    function anyone({ raw, headers: { authorization } }: FastifyRequest): Caller | Promise<Caller> {
      // Whoever comes in another way is told of this one, and of no error (RFC 6750 section 3.1).
      if (authorization === undefined || !SCHEME.test(authorization)) throw new Problem('missing_token');
      const token = bearerToken(authorization);
      if (token.startsWith(OPAQUE_PREFIX)) return byOpaqueToken(token, raw);
      return bySeenJwt(token) ?? byJwt(token);
    }

    app.decorateRequest('authenticateAnyone', function authenticateAnyone(this: FastifyRequest) {
      return anyone(this);
    });
    app.decorateRequest('authenticate', async function authenticate(this: FastifyRequest) {
      const caller = await anyone(this);
      if (caller.sid === undefined) throw new Problem('insufficient_scope', { scope: USER_SCOPE });
      return { ...caller, sid: caller.sid };
    });
    app.decorateRequest('authenticateClient', async function authenticateClient(this: FastifyRequest, scope: string) {
      const caller = await anyone(this);
      if (caller.sid !== undefined || !caller.scope.split(' ').includes(scope))
        throw new Problem('insufficient_scope', { scope });
      return caller;
    });
    app.decorateRequest(
      'authenticateListener',
      async function authenticateListener(this: FastifyRequest, scope: string) {
        await this.authenticateClient(scope);
        const token = bearerToken(this.headers.authorization ?? '');
        const { expires, identity } = await verifier.read(token).catch(refuse);
        return () => Date.now() < expires && !copy.denies(identity);
      },
    );
  },
  { name: 'bearer-auth' },
);

const SCHEME = /^Bearer(?: |$)/i;
const BEARER = /^Bearer +([^ ]+)$/i;

/** RFC 6750 section 2.1. @returns text that is no token if there is none. */
export function bearerToken(authorization: string): string {
  // As nearly everybody writes it.
  if (authorization.startsWith('Bearer ') && !authorization.includes(' ', 7)) return authorization.slice(7);
  return BEARER.exec(authorization)?.[1] ?? '';
}

function refuse(error: unknown): never {
  throw refusal(error);
}

function refusal(error: unknown): unknown {
  if (!(error instanceof VerifyError)) return error;
  switch (error.code) {
    case 'token_revoked':
      return new Problem('session_revoked');
    case 'revocations_unknown':
      return new Problem('dependency_unavailable', {
        detail: 'the revocations are not known at the moment',
        retryAfter: 1,
        cause: new NotReady('the revocations are not known', { dependency: 'redis', cause: error.cause }),
      });
    case 'keys_unavailable':
      // What loading the keys threw keeps its meaning.
      return error.cause;
    default:
      return new Problem('invalid_token', { cause: error });
  }
}
