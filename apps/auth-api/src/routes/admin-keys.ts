/** The keys that sign access tokens, for operators. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Act, Operators } from '../domain/operators.ts';
import { instant } from './admin-schemas.ts';
import { answers, Instant, NoBody, NoContent, Nullable, UNAUTHENTICATED } from './schemas.ts';

export interface AdminKeyRoutesOptions {
  operators: Operators;
  operator: (request: FastifyRequest) => Promise<Act>;
}

const Key = Type.Object({
  kid: Type.String({ description: 'RFC 7638 thumbprint' }),
  alg: Type.String(),
  state: Type.String({ description: 'next, current, retiring or revoked' }),
  created_at: Instant,
  signs_from: Nullable(Instant),
  expires_at: Nullable(Instant),
  revoked_at: Nullable(Instant),
});

export const adminKeyRoutes: FastifyPluginAsyncTypebox<AdminKeyRoutesOptions> = async (
  app,
  { operators, operator },
) => {
  const common = { tags: ['Operators'], security: [{ bearer: [] }] };

  app.get(
    '/keys',
    {
      schema: {
        ...common,
        operationId: 'adminListKeys',
        summary: 'Signing keys, the newest first',
        response: answers({ 200: Type.Object({ keys: Type.Array(Key) }) }, ...UNAUTHENTICATED),
      },
    },
    async () => ({
      keys: (await operators.listKeys()).map(({ kid, alg, state, createdAt, signsFrom, expiresAt, revokedAt }) => ({
        kid,
        alg,
        state,
        created_at: createdAt.toISOString(),
        signs_from: instant(signsFrom),
        expires_at: instant(expiresAt),
        revoked_at: instant(revokedAt),
      })),
    }),
  );

  app.post(
    '/keys/rotation',
    {
      schema: {
        ...common,
        operationId: 'adminRotateKeys',
        summary: 'Sign with the next key from now on',
        description:
          'The former key verifies what it has signed until that has expired. Refused while not every verifier knows the next key.',
        body: NoBody,
        response: answers(
          { 200: Type.Object({ kid: Type.String(), retiring: Type.String() }) },
          'signing_key_too_young',
          ...UNAUTHENTICATED,
        ),
      },
    },
    async (request) => operators.rotateKeys(await operator(request)),
  );

  app.delete(
    '/keys/:kid',
    {
      schema: {
        ...common,
        operationId: 'adminRevokeKey',
        summary: 'Revoke a signing key: every token it has signed is refused, and another key signs at once',
        description: 'Sessions go on: their refresh tokens are none of it. May be repeated.',
        params: Type.Object({ kid: Type.String({ maxLength: 128 }) }),
        body: NoBody,
        response: answers({ 204: NoContent }, 'signing_key_unknown', ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      await operators.revokeKey(await operator(request), request.params.kid);
      return reply.code(204).send();
    },
  );
};
