/** Forward authentication for gateways: nginx `auth_request`, Traefik and Caddy `forward_auth`, Envoy `ext_authz`. */
import { METHODS } from 'node:http';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { type Caller, identityHeaders } from '../plugins/bearer-auth.ts';
import { Problem } from '../problems.ts';
import { answers, UNAUTHENTICATED } from './schemas.ts';

/** RFC 6749 section 3.3: scope tokens separated by spaces. */
const SCOPE = '^[\\x21\\x23-\\x5B\\x5D-\\x7E]+( [\\x21\\x23-\\x5B\\x5D-\\x7E]+)*$';

const Answer = Type.Null({ description: 'Good; who it is stands in the headers' });
const headers = {
  'X-Auth-User': Type.String({ description: 'id of the user' }),
  'X-Auth-Session': Type.String({ description: 'id of the session; left out for a client, which has none' }),
  'X-Auth-Scope': Type.String({ description: 'scopes, separated by spaces' }),
  'X-Auth-Token-Expires': Type.String({
    format: 'date-time',
    description: 'left out for an opaque token that never expires',
  }),
};

export const verifyRoutes: FastifyPluginAsyncTypebox = async (app) => {
  // Some gateways pass the request's body on, or only the headers that describe it: none of our business, whatever its type.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  app.addHook('onRequest', ({ raw }, _reply, done) => {
    // QUERY needs one (RFC 10008 section 2).
    raw.headers['content-type'] = 'application/octet-stream';
    done();
  });
  // A gateway asks with its own client's method, whichever that is; these are all that Node reads.
  for (const method of METHODS)
    if (!app.supportedMethods.includes(method)) app.addHttpMethod(method, { hasBody: true });

  function answer(caller: Caller, needed: string | undefined, reply: FastifyReply): FastifyReply {
    const { scope } = caller;
    if (needed !== undefined) {
      const held = scope.split(' ');
      if (!needed.split(' ').every((name) => held.includes(name)))
        throw new Problem('insufficient_scope', { scope: needed });
    }
    return reply.code(200).headers(identityHeaders(caller)).send();
  }

  const route = {
    exposeHeadRoute: false,
    // No promise where none is needed: this is what a gateway asks before each of its own requests.
    handler(request: FastifyRequest<{ Querystring: { scope?: string } }>, reply: FastifyReply) {
      const caller = request.authenticateAnyone();
      const { scope } = request.query;
      return caller instanceof Promise
        ? caller.then((known) => answer(known, scope, reply))
        : answer(caller, scope, reply);
    },
  };
  const schema = {
    operationId: 'verify',
    tags: ['Gateways'],
    summary: 'Is this access token good now?',
    description:
      'Any method, and any path below (Envoy appends the one that was asked for). Answers of a JWT from memory, of an opaque token by one question to Redis: a signature is checked once per token, revocations are known as they happen. 503 when they may not be.',
    security: [{ bearer: [] }],
    querystring: Type.Object({
      scope: Type.Optional(
        Type.String({
          pattern: SCOPE,
          maxLength: 500,
          description: 'scopes that are needed, all of them, as RFC 6749 section 3.3 writes them',
        }),
      ),
    }),
    response: answers({ 200: { ...Answer, headers } }, 'insufficient_scope', ...UNAUTHENTICATED),
  };
  app.route({ ...route, method: 'GET', url: '/verify', schema });
  const others = app.supportedMethods.filter((method) => method !== 'GET');
  app.route({ ...route, method: others, url: '/verify', schema: { ...schema, hide: true } });
  app.route({ ...route, method: app.supportedMethods, url: '/verify/*', schema: { ...schema, hide: true } });
};
