/** OAuth 2.0 for machines: the client's own token (RFC 6749 section 4.4), introspection (RFC 7662), revocation (RFC 7009), metadata (RFC 8414). */
import formbody from '@fastify/formbody';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyError, FastifyRequest } from 'fastify';
import { type TSchema, Type } from 'typebox';
import type { ClientCredentials, Clients } from '../domain/clients.ts';
import type { Operators } from '../domain/operators.ts';
import { type OAuthCode, OAuthProblem, oauthStatusesOf } from '../problems.ts';
import { requestContext } from './request-context.ts';
import { answers } from './schemas.ts';

/** Longer than any token of this issuer: RS256 over the claims takes some 1200 characters. */
const Token = Type.String({ minLength: 1, maxLength: 4096 });
/** RFC 7009 and 7662: a hint may be wrong and is not needed; every token says what it is. */
const TokenForm = Type.Object({ token: Token, token_type_hint: Type.Optional(Type.String({ maxLength: 100 })) });

const refusal = (codes: readonly OAuthCode[]) =>
  Type.Object(
    { error: Type.Union(codes.map((code) => Type.Literal(code))), error_description: Type.String() },
    { description: `RFC 6749 section 5.2: ${codes.join(', ')}` },
  );

/** The `response` of a route whose refusals are RFC 6749's; a dependency that is down is answered as everywhere. */
function oauthAnswers(success: TSchema, ...codes: OAuthCode[]): Record<number, unknown> {
  const refusals = [...oauthStatusesOf(['invalid_request', 'invalid_client', ...codes])].map(
    ([status, group]) => [status, refusal(group)] as const,
  );
  return { ...answers({ 200: success }), ...Object.fromEntries(refusals) };
}

const BASIC = /^Basic +([A-Za-z0-9+/]+={0,2})$/i;

/** RFC 6749 section 2.3.1: id and secret are form-encoded, then joined as RFC 7617 wants it. @throws {OAuthProblem} `invalid_client` */
function credentials(request: FastifyRequest): ClientCredentials {
  const encoded = BASIC.exec(request.headers.authorization ?? '')?.[1];
  if (encoded === undefined) throw new OAuthProblem('invalid_client', 'The client must authenticate with HTTP Basic');
  const text = Buffer.from(encoded, 'base64').toString();
  const colon = text.indexOf(':');
  try {
    const decode = (part: string) => decodeURIComponent(part.replaceAll('+', ' '));
    return { id: decode(text.slice(0, Math.max(0, colon))), secret: decode(text.slice(colon + 1)) };
  } catch {
    throw new OAuthProblem('invalid_client', 'The credentials are not form-encoded');
  }
}

/** What Fastify refuses by itself, in the words of RFC 6749. */
function asOAuthProblem(error: FastifyError): OAuthProblem | undefined {
  if (error instanceof OAuthProblem) return error;
  if (error.validation) return new OAuthProblem('invalid_request', error.message);
  if (error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE')
    return new OAuthProblem('invalid_request', 'Send application/x-www-form-urlencoded');
  // Not a length, not a form.
  if (error.statusCode === 400) return new OAuthProblem('invalid_request', error.message);
  return undefined;
}

export interface OAuthRoutesOptions {
  clients: Clients;
  operators: Operators;
  issuer: string;
}

export const oauthRoutes: FastifyPluginAsyncTypebox<OAuthRoutesOptions> = async (
  app,
  { clients, operators, issuer },
) => {
  app.removeAllContentTypeParsers();
  await app.register(formbody);

  app.setErrorHandler((error: FastifyError, _request, reply) => {
    const problem = asOAuthProblem(error);
    // A dependency that is down and what is our own fault look the same everywhere (plugins/problem-answers.ts).
    if (!problem) throw error;
    if (problem.status === 401) reply.header('www-authenticate', 'Basic realm="latchkey", charset="UTF-8"');
    return reply
      .code(problem.status)
      .type('application/json')
      .send({ error: problem.code, error_description: problem.message });
  });
  // RFC 6749 section 5.1: what is said of a token is never cached.
  app.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store');
  });

  const security = [{ client: [] }];

  app.post(
    '/oauth/token',
    {
      schema: {
        operationId: 'clientToken',
        tags: ['Gateways'],
        summary: 'A token for the client itself (RFC 6749 section 4.4)',
        consumes: ['application/x-www-form-urlencoded'],
        security,
        body: Type.Object({
          grant_type: Type.String({ maxLength: 100 }),
          scope: Type.Optional(Type.String({ maxLength: 1000 })),
          client_secret: Type.Optional(
            Type.Never({ description: 'The client authenticates with HTTP Basic, and in one way only' }),
          ),
        }),
        response: oauthAnswers(
          Type.Object({
            access_token: Type.String(),
            token_type: Type.Literal('Bearer'),
            expires_in: Type.Integer(),
            scope: Type.String(),
          }),
          'invalid_scope',
          'unsupported_grant_type',
        ),
      },
    },
    async (request) => {
      const { grant_type: grant, scope } = request.body;
      const client = credentials(request);
      if (grant !== 'client_credentials') throw new OAuthProblem('unsupported_grant_type');
      // RFC 6749 section 3.2: a parameter without a value is one that was left out.
      const issued = await clients.issueToken(client, scope || undefined);
      return {
        access_token: issued.accessToken,
        token_type: 'Bearer' as const,
        expires_in: issued.expiresIn,
        scope: issued.scope,
      };
    },
  );

  app.post(
    '/oauth/introspect',
    {
      schema: {
        operationId: 'introspect',
        tags: ['Gateways'],
        summary: 'What an access token is worth now, asked of the store (RFC 7662)',
        description: 'For a client with scope introspect. A refresh token is never active: it opens nothing.',
        consumes: ['application/x-www-form-urlencoded'],
        security,
        body: TokenForm,
        response: oauthAnswers(
          Type.Object({
            active: Type.Boolean(),
            token_type: Type.Optional(Type.Literal('Bearer')),
            scope: Type.Optional(Type.String()),
            client_id: Type.Optional(Type.String()),
            sub: Type.Optional(Type.String()),
            sid: Type.Optional(Type.String()),
            iss: Type.Optional(Type.String()),
            aud: Type.Optional(Type.String()),
            exp: Type.Optional(Type.Integer({ description: 'Left out for a token that never expires' })),
            iat: Type.Optional(Type.Integer()),
            orig_iat: Type.Optional(Type.Integer()),
            jti: Type.Optional(Type.String()),
          }),
          'insufficient_scope',
        ),
      },
    },
    async (request) => operators.introspect(credentials(request), request.body.token),
  );

  app.post(
    '/oauth/revoke',
    {
      schema: {
        operationId: 'revokeToken',
        tags: ['Gateways'],
        summary: 'End a token (RFC 7009)',
        description: 'A client ends its own tokens; with scope admin, any, and with a token of a user its session.',
        consumes: ['application/x-www-form-urlencoded'],
        security,
        body: TokenForm,
        response: oauthAnswers(
          Type.Null({ description: 'Refused from now on; so is what was no token' }),
          'unauthorized_client',
        ),
      },
    },
    async (request, reply) => {
      const act = { context: requestContext(request), now: Date.now() };
      await operators.revokeToken(credentials(request), request.body.token, act);
      return reply.code(200).send();
    },
  );

  const basic = ['client_secret_basic'];
  const metadata = {
    issuer,
    token_endpoint: `${issuer}/oauth/token`,
    token_endpoint_auth_methods_supported: basic,
    introspection_endpoint: `${issuer}/oauth/introspect`,
    introspection_endpoint_auth_methods_supported: basic,
    revocation_endpoint: `${issuer}/oauth/revoke`,
    revocation_endpoint_auth_methods_supported: basic,
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    grant_types_supported: ['client_credentials'],
    // Required by RFC 8414; there is no authorization endpoint, so none.
    response_types_supported: [] as string[],
    scopes_supported: ['admin', 'introspect', 'revocations:read'],
    service_documentation: `${issuer}/docs`,
  };

  app.get(
    '/.well-known/oauth-authorization-server',
    {
      schema: {
        operationId: 'serverMetadata',
        tags: ['Gateways'],
        summary: 'Where what is (RFC 8414)',
        response: answers({
          200: Type.Record(Type.String(), Type.Union([Type.String(), Type.Array(Type.String())])),
        }),
      },
    },
    async () => metadata,
  );
};
