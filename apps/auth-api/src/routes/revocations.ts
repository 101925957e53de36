/** The revocation feed, for verifiers outside the trusted network. */
import type { Readable } from 'node:stream';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { RevocationFeed } from '../domain/revocation-feed.ts';
import { CLIENT_SCOPES } from '../domain/scopes.ts';
import { answers, UNAUTHENTICATED } from './schemas.ts';

export const revocationRoutes: FastifyPluginAsyncTypebox<{ feed: RevocationFeed }> = async (app, { feed }) => {
  // An open stream would keep the app from closing.
  app.addHook('preClose', async () => feed.close());

  app.get(
    '/revocations',
    {
      exposeHeadRoute: false,
      schema: {
        operationId: 'revocations',
        tags: ['Gateways'],
        summary: 'What is revoked, as it happens',
        description:
          'Server-sent events, for a client with scope revocations:read. `start` {epoch: {id, born}, resumed}; `revoked`, an array of lines {sid, from, until} | {sub, cutoff, until} | {kid, until}; `complete` once all that is known has been said; `alive` {at}, several times per lag bound: milliseconds since the request began at which all was surely known. Unless `resumed`, what a verifier hears is not all until `complete`: what it knew before it may believe for as long as its lag bound allows. Ends when the token does.',
        security: [{ bearer: [] }],
        headers: Type.Object({
          'last-event-id': Type.Optional(
            Type.String({
              maxLength: 128,
              description:
                'the id of the last event that was read: goes on after it, or, when that is not there any more, starts over',
            }),
          ),
        }),
        response: {
          ...answers({}, ...UNAUTHENTICATED),
          200: {
            description: 'The stream',
            content: { 'text/event-stream': { schema: Type.Unsafe<Readable>({ type: 'string' }) } },
          },
        },
      },
    },
    async (request, reply) => {
      const mayListen = await request.authenticateListener(CLIENT_SCOPES.feed);
      const stream = feed.listen({ lastEventId: request.headers['last-event-id'], mayListen });
      return (
        reply
          .type('text/event-stream')
          .header('cache-control', 'no-store')
          // nginx would hold back anything less than a whole buffer.
          .header('x-accel-buffering', 'no')
          .send(stream)
      );
    },
  );
};
