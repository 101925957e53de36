/** The caller's own sessions. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { Sessions } from '../domain/sessions.ts';
import { requestContext } from './request-context.ts';
import { answers, NoBody, NoContent, UNAUTHENTICATED } from './schemas.ts';
import { SessionFields, sessionFields } from './session-fields.ts';

const SessionList = Type.Object({
  sessions: Type.Array(Type.Object({ ...SessionFields, current: Type.Boolean() })),
});

export const sessionRoutes: FastifyPluginAsyncTypebox<{ sessions: Sessions }> = async (app, { sessions }) => {
  const security = [{ bearer: [] }];

  // The caller is checked before the input: without a token no body is waited for, and nothing is said about it. The handlers check again: a
  // body may take its time.
  app.addHook('onRequest', async (request) => {
    await request.authenticate();
  });

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
        sessions: list.map((session) => ({ ...sessionFields(session), current: session.id === sid })),
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
        body: NoBody,
        response: answers({ 204: NoContent }, ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      const { sub, sid } = await request.authenticate();
      await sessions.endCurrent(sub, sid, requestContext(request));
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
        body: NoBody,
        response: answers({ 204: NoContent }, 'session_unknown', ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      const { sub } = await request.authenticate();
      await sessions.end(sub, request.params.id, requestContext(request));
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
        body: NoBody,
        response: answers({ 204: NoContent }, ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      const { sub, sid } = await request.authenticate();
      if (request.query.except === 'current') await sessions.endOthers(sub, sid, requestContext(request));
      else await sessions.endAll(sub, requestContext(request));
      return reply.code(204).send();
    },
  );
};
