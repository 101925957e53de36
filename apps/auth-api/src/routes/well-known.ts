/** What others need to check our tokens. */
import { hash } from 'node:crypto';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { JWKS_MAX_AGE, type SigningKeys } from '../domain/signing-keys.ts';
import { answers } from './schemas.ts';

/** RFC 7517; members differ by key type. */
const Jwks = Type.Object({ keys: Type.Array(Type.Record(Type.String(), Type.String())) });

/** RFC 9110 section 8.8.3, of what is answered. */
const entityTag = (jwks: object): string => `"${hash('sha256', JSON.stringify(jwks), 'base64url')}"`;

/** RFC 9110 section 13.1.2: a list of tags compared weakly, or `*`. */
const names = (ifNoneMatch: string | undefined, tag: string): boolean =>
  ifNoneMatch?.split(',').some((one) => [tag, `W/${tag}`, '*'].includes(one.trim())) ?? false;

export const wellKnownRoutes: FastifyPluginAsyncTypebox<{ signingKeys: SigningKeys }> = async (
  app,
  { signingKeys },
) => {
  app.get(
    '/.well-known/jwks.json',
    {
      schema: {
        operationId: 'jwks',
        tags: ['Gateways'],
        summary: 'The public keys of access tokens (RFC 7517)',
        response: answers({ 200: Jwks, 304: Type.Null({ description: 'They are what If-None-Match names' }) }),
      },
    },
    async (request, reply) => {
      const jwks = await signingKeys.jwks();
      const tag = entityTag(jwks);
      reply.header('cache-control', `public, max-age=${JWKS_MAX_AGE}`).header('etag', tag);
      return names(request.headers['if-none-match'], tag) ? reply.code(304).send() : reply.send(jwks);
    },
  );
};
