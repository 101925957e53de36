/** The caller's own sessions. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { Sessions } from '../domain/sessions.ts';
import { answers, Instant, NoContent, UNAUTHENTICATED } from './schemas.ts';

const SessionList = Type.Object({
  sessions: Type.Array(
    Type.Object({
      id: Type.String(),
      device_name: Type.Union([Type.String(), Type.Null()]),
      user_agent: Type.Union([Type.String(), Type.Null()]),
      ip: Type.String(),
      token_format: Type.Literal('jwt'),
      created_at: Instant,
      last_seen_at: Instant,
      expires_at: Type.Union([Instant, Type.Null()]),
      current: Type.Boolean(),
    }),
  ),
});

const instant = (ms: number) => new Date(ms).toISOString();

export const sessionRoutes: FastifyPluginAsyncTypebox<{ sessions: Sessions }> = async (app, { sessions }) => {
  const security = [{ bearer: [] }];

  app.get(
    '/sessions',
    {
      schema: {
        operationId: 'listSessions',
        tags: ['Sessions'],
        summary: 'The devices the caller is logged in on',
        security,
        response: answers({ 200: SessionList }, ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      const { sub, sid } = await request.authenticate();
      reply.header('cache-control', 'no-store');
      const list = await sessions.list(sub);
      return {
        sessions: list.map((session) => ({
          id: session.id,
          device_name: session.deviceName,
          user_agent: session.userAgent,
          ip: session.ip,
          token_format: 'jwt' as const,
          created_at: instant(session.createdAt / 1000),
          last_seen_at: instant(session.lastSeenAt / 1000),
          expires_at: instant(session.expiresAt),
          current: session.id === sid,
        })),
      };
    },
  );

  app.delete(
    '/sessions/current',
    {
      schema: {
        operationId: 'logout',
        tags: ['Sessions'],
        summary: 'End the session of this access token',
        security,
        response: answers({ 204: NoContent }, ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      const { sub, sid } = await request.authenticate();
      await sessions.endCurrent(sub, sid);
      return reply.code(204).send();
    },
  );

  app.delete(
    '/sessions/:id',
    {
      schema: {
        operationId: 'endSession',
        tags: ['Sessions'],
        summary: 'End one session of the caller',
        security,
        params: Type.Object({ id: Type.String({ maxLength: 64 }) }),
        response: answers({ 204: NoContent }, 'session_unknown', ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      const { sub } = await request.authenticate();
      await sessions.end(sub, request.params.id);
      return reply.code(204).send();
    },
  );

  app.delete(
    '/sessions',
    {
      schema: {
        operationId: 'endSessions',
        tags: ['Sessions'],
        summary: 'End every session of the caller, or every other one',
        security,
        querystring: Type.Object({ except: Type.Optional(Type.Literal('current')) }, { additionalProperties: false }),
        response: answers({ 204: NoContent }, ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      const { sub, sid } = await request.authenticate();
      if (request.query.except === 'current') await sessions.endOthers(sub, sid);
      else await sessions.endAll(sub, sid);
      return reply.code(204).send();
    },
  );
};
