/**
 * Who calls: the access token of `Authorization: Bearer` (RFC 6750). A JWT is checked in memory: @fastify/jwt verifies the signature once
 * per token and keeps the result; whether it was revoked is asked of the live copy of the revocation log each time. An opaque token is
 * asked of the store.
 */
import fastifyJwt, { type Secret } from '@fastify/jwt';
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { type AccessTokenClaims, type ClientTokenClaims, USER_SCOPE } from '../domain/access-token.ts';
import { OPAQUE_PREFIX } from '../domain/opaque-token.ts';
import type { SigningKeys } from '../domain/signing-keys.ts';
import { identityOf } from '../domain/token-identity.ts';
import { Problem } from '../problems.ts';

declare module '@fastify/jwt' {
  interface FastifyJWT {
    payload: AccessTokenClaims | ClientTokenClaims;
    user: AccessTokenClaims | ClientTokenClaims;
  }
}

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

type UserCaller = Caller & { sid: string };

declare module 'fastify' {
  interface FastifyRequest {
    /** Whom the caller's access token stands for. @throws {Problem} `missing_token`, `invalid_token`, `session_revoked`, `dependency_unavailable`. */
    authenticateAnyone(): Promise<Caller>;
    /** The same, of a user. @throws {Problem} also `insufficient_scope` for a client. */
    authenticate(): Promise<UserCaller>;
    /** The same, of a client with this scope. @throws {Problem} also `insufficient_scope`. */
    authenticateClient(scope: string): Promise<Caller>;
  }
}

/** Verified tokens kept per key: about 1 KB each. */
const CACHED_TOKENS = 10_000;

export interface BearerAuthOptions {
  signingKeys: SigningKeys;
  revocations: RevocationCopy;
  /** Asks the store for an opaque token. */
  findOpaqueToken: (token: string, notBefore: number) => Promise<Caller | undefined>;
  issuer: string;
  audience: string;
}

export const bearerAuth = fp(
  async (app: FastifyInstance, { signingKeys, revocations, findOpaqueToken, issuer, audience }: BearerAuthOptions) => {
    // The algorithm is never the token's choice: fast-jwt takes it from the type of the key that `kid` names.
    // (The plugin's types name only fast-jwt's own key callback; what it calls is this one.)
    const keyOf = (_request: FastifyRequest, { header }: { header: { kid?: unknown } }) =>
      signingKeys.publicPem(typeof header.kid === 'string' ? header.kid : '');

    await app.register(fastifyJwt, {
      secret: { public: keyOf as unknown as Secret },
      decode: { complete: true },
      verify: {
        allowedIss: issuer,
        allowedAud: audience,
        checkTyp: 'at+jwt',
        requiredClaims: ['exp', 'iat', 'sub', 'client_id', 'jti'],
        cache: CACHED_TOKENS,
        // A refusal is never cached: a token may fail only because its key is not known yet.
        errorCacheTTL: -1,
      },
    });

    async function byOpaqueToken(token: string): Promise<Caller> {
      const epoch = revocations.epoch();
      if (epoch === undefined) throw unknownRevocations();
      const caller = await findOpaqueToken(token, epoch.born);
      if (!caller) throw new Problem('invalid_token');
      return caller;
    }

    async function byJwt(request: FastifyRequest): Promise<Caller> {
      // A copy that may be out of date can't tell a good token from a revoked one.
      if (!revocations.fresh()) throw unknownRevocations();
      let claims: AccessTokenClaims | ClientTokenClaims;
      try {
        claims = await request.jwtVerify<AccessTokenClaims | ClientTokenClaims>();
      } catch (error) {
        throw refusal(error);
      }
      if (revocations.denies(identityOf(claims))) throw new Problem('session_revoked');
      return claims;
    }

    async function anyone(request: FastifyRequest): Promise<Caller> {
      const { authorization } = request.headers;
      if (authorization === undefined) throw new Problem('missing_token');
      const opaque = OPAQUE.exec(authorization)?.[1];
      return opaque === undefined ? byJwt(request) : byOpaqueToken(opaque);
    }

    app.decorateRequest('authenticateAnyone', async function authenticateAnyone(this: FastifyRequest) {
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
  },
  { name: 'bearer-auth' },
);

const OPAQUE = new RegExp(`^Bearer (${OPAQUE_PREFIX}\\S*)$`, 'i');

const unknownRevocations = () =>
  new Problem('dependency_unavailable', { detail: 'the revocations are not known at the moment', retryAfter: 1 });

/** @fastify/jwt refuses with 400 or 401; what is neither comes from loading the keys and keeps its meaning. */
function refusal(error: unknown): unknown {
  if (error instanceof Problem) return error;
  const status = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined;
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (status === 400 || status === 401 || code.startsWith('FAST_JWT_') || code.startsWith('FST_JWT_')) {
    return new Problem('invalid_token', { cause: error });
  }
  return error;
}
