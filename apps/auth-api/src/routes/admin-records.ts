/** For operators: the audit log, and the clients. Registered inside the other admin routes, whose guard it stands behind. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Act, Operators } from '../domain/operators.ts';
import { AUDIT_TYPES } from '../store/audit.ts';
import { instant, Limit, limitOf, UserId } from './admin-schemas.ts';
import { answers, Instant, NoBody, NoContent, Nullable, oneOf, UNAUTHENTICATED } from './schemas.ts';

export interface AdminRecordRoutesOptions {
  operators: Operators;
  operator: (request: FastifyRequest) => Promise<Act>;
}

export const adminRecordRoutes: FastifyPluginAsyncTypebox<AdminRecordRoutesOptions> = async (
  app,
  { operators, operator },
) => {
  const common = { tags: ['Operators'], security: [{ bearer: [] }] };

  app.get(
    '/audit-events',
    {
      schema: {
        ...common,
        operationId: 'adminListEvents',
        summary: 'Who did what to whom, from where, when; the newest first',
        querystring: Type.Object(
          {
            user_id: Type.Optional(UserId),
            type: Type.Optional(oneOf(AUDIT_TYPES)),
            cursor: Type.Optional(Type.String({ pattern: '^[0-9]{1,18}$', description: 'a cursor of this list' })),
            limit: Limit,
          },
          { additionalProperties: false },
        ),
        response: answers(
          {
            200: Type.Object({
              events: Type.Array(
                Type.Object({
                  id: Type.String(),
                  at: Instant,
                  type: Type.String(),
                  actor: Type.Object({ type: Type.String(), id: Nullable(Type.String()) }),
                  user_id: Nullable(Type.String()),
                  ip: Nullable(Type.String()),
                  user_agent: Nullable(Type.String()),
                  request_id: Nullable(Type.String()),
                  details: Type.Record(Type.String(), Type.Unknown()),
                }),
              ),
              next_cursor: Nullable(Type.String()),
            }),
          },
          ...UNAUTHENTICATED,
        ),
      },
    },
    async ({ query }) => {
      const limit = limitOf(query);
      const { user_id: userId, type, cursor } = query;
      const found = await operators.listEvents({ userId, type, cursor, limit: limit + 1 });
      const events = found.slice(0, limit);
      return {
        events: events.map(({ id, at, type: what, actor, userId: whom, ip, userAgent, requestId, details }) => ({
          id,
          at: at.toISOString(),
          type: what,
          actor,
          user_id: whom,
          ip,
          user_agent: userAgent,
          request_id: requestId,
          details: details as Record<string, unknown>,
        })),
        next_cursor: found.length > limit ? (events.at(-1)?.id ?? null) : null,
      };
    },
  );

  app.get(
    '/clients',
    {
      schema: {
        ...common,
        operationId: 'adminListClients',
        summary: 'Clients, the oldest first',
        response: answers(
          {
            200: Type.Object({
              clients: Type.Array(
                Type.Object({
                  id: Type.String(),
                  scopes: Type.Array(Type.String()),
                  created_at: Instant,
                  revoked_at: Nullable(Instant),
                }),
              ),
            }),
          },
          ...UNAUTHENTICATED,
        ),
      },
    },
    async () => ({
      clients: (await operators.listClients()).map(({ id, scopes, createdAt, revokedAt }) => ({
        id,
        scopes,
        created_at: createdAt.toISOString(),
        revoked_at: instant(revokedAt),
      })),
    }),
  );

  app.delete(
    '/clients/:id',
    {
      schema: {
        ...common,
        operationId: 'adminRevokeClient',
        summary: 'Revoke a client: it gets no token any more, and those it has are refused',
        params: Type.Object({ id: Type.String({ maxLength: 128 }) }),
        body: NoBody,
        response: answers({ 204: NoContent }, 'client_unknown', ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      await operators.revokeClient(await operator(request), request.params.id);
      return reply.code(204).send();
    },
  );
};
