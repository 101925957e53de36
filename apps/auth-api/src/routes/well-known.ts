/** What others need to check our tokens. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { SigningKeys } from '../domain/signing-keys.ts';
import { answers } from './schemas.ts';

/** RFC 7517; members differ by key type. */
const Jwks = Type.Object({ keys: Type.Array(Type.Record(Type.String(), Type.String())) });

/** Seconds a verifier may keep the keys: a new one is published longer than that before it signs. */
const MAX_AGE = 300;

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
        response: answers({ 200: Jwks }),
      },
    },
    async (_request, reply) => {
      return reply.header('cache-control', `public, max-age=${MAX_AGE}`).send(await signingKeys.jwks());
    },
  );
};
