/**
 * Who calls: the access token of `Authorization: Bearer` (RFC 6750), checked in memory. @fastify/jwt verifies the signature once per
 * token and keeps the result; whether the session was revoked is asked of the live copy of the revocation log each time.
 */
import fastifyJwt, { type Secret } from '@fastify/jwt';
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import type { AccessTokenClaims } from '../domain/access-token.ts';
import type { SigningKeys } from '../domain/signing-keys.ts';
import { Problem } from '../problems.ts';

declare module '@fastify/jwt' {
  interface FastifyJWT {
    payload: AccessTokenClaims;
    user: AccessTokenClaims;
  }
}

declare module 'fastify' {
  interface FastifyRequest {
    /** The claims of the caller's access token. @throws {Problem} `missing_token`, `invalid_token`, `session_revoked`, `dependency_unavailable`. */
    authenticate(): Promise<AccessTokenClaims>;
  }
}

/** Verified tokens kept per key: about 1 KB each. */
const CACHED_TOKENS = 10_000;

export interface BearerAuthOptions {
  signingKeys: SigningKeys;
  revocations: RevocationCopy;
  issuer: string;
  audience: string;
}

export const bearerAuth = fp(
  async (app: FastifyInstance, { signingKeys, revocations, issuer, audience }: BearerAuthOptions) => {
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
        requiredClaims: ['exp', 'iat', 'sub', 'sid', 'jti'],
        cache: CACHED_TOKENS,
        // A refusal is never cached: a token may fail only because its key is not known yet.
        errorCacheTTL: -1,
      },
    });

    app.decorateRequest('authenticate', async function authenticate(this: FastifyRequest) {
      // Asked first: a copy that may be out of date can't tell a good token from a revoked one.
      if (!revocations.fresh()) {
        throw new Problem('dependency_unavailable', {
          detail: 'the revocations are not known at the moment',
          retryAfter: 1,
        });
      }
      if (this.headers.authorization === undefined) throw new Problem('missing_token');
      let claims: AccessTokenClaims;
      try {
        claims = await this.jwtVerify<AccessTokenClaims>();
      } catch (error) {
        throw refusal(error);
      }
      if (revocations.denies(claims.sid)) throw new Problem('session_revoked');
      return claims;
    });
  },
  { name: 'bearer-auth' },
);

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
