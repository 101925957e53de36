/** Forward authentication for gateways: nginx `auth_request`, Traefik and Caddy `forward_auth`, Envoy `ext_authz`. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { Problem } from '../problems.ts';
import { answers, UNAUTHENTICATED } from './schemas.ts';

/** RFC 6749 section 3.3: scope tokens separated by spaces. */
const SCOPE = '^[\\x21\\x23-\\x5B\\x5D-\\x7E]+( [\\x21\\x23-\\x5B\\x5D-\\x7E]+)*$';

export const verifyRoutes: FastifyPluginAsyncTypebox = async (app) => {
  // Some gateways pass the request's body on: it is none of our business, whatever its type.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));

  app.route({
    method: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
    url: '/verify',
    exposeHeadRoute: false,
    schema: {
      operationId: 'verify',
      tags: ['Gateways'],
      summary: 'Is this access token good now?',
      description:
        'Answers from memory: the signature is checked once per token, revocations are known as they happen. 503 when they may not be.',
      security: [{ bearer: [] }],
      querystring: Type.Object({
        scope: Type.Optional(
          Type.String({ pattern: SCOPE, maxLength: 500, description: 'Scopes that are needed, all of them' }),
        ),
      }),
      response: answers(
        { 200: Type.Null({ description: 'Good; who it is stands in the X-Auth-* headers' }) },
        ...UNAUTHENTICATED,
      ),
    },
    handler: async (request, reply) => {
      const { sub, sid, scope, exp } = await request.authenticateAnyone();
      const needed = request.query.scope;
      if (needed !== undefined) {
        const held = scope.split(' ');
        if (!needed.split(' ').every((name) => held.includes(name)))
          throw new Problem('insufficient_scope', { scope: needed });
      }
      reply.header('x-auth-user', sub).header('x-auth-scope', scope).header('cache-control', 'no-store');
      // A client acts for itself and has no session.
      if (sid !== undefined) reply.header('x-auth-session', sid);
      // Left out for a token that never expires.
      if (exp !== null) reply.header('x-auth-token-expires', exp);
      return reply.code(200).send();
    },
  });
};
