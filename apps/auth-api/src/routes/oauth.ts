/** OAuth 2.0 for machines: the client's own token (RFC 6749 section 4.4), introspection (RFC 7662), revocation (RFC 7009), metadata (RFC 8414). */
import formbody from '@fastify/formbody';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { type TSchema, Type } from 'typebox';
import type { ClientCredentials, Clients } from '../domain/clients.ts';
import type { Operators } from '../domain/operators.ts';
import { CLIENT_SCOPES } from '../domain/scopes.ts';
import { JWKS_MAX_AGE } from '../domain/signing-keys.ts';
import { asProblem, escaped } from '../plugins/problem-answers.ts';
import { invalidInput, Problem, type ProblemCode, problemBody, statusesOf } from '../problems.ts';
import { requestContext } from './request-context.ts';
import { answers, oneOf, problemSchema } from './schemas.ts';

/** RFC 7009 and 7662: a hint may be wrong and is not needed; every token says what it is. What is too long to be one is none. */
const TokenForm = Type.Object({ token: Type.String(), token_type_hint: Type.Optional(Type.String()) });

/** What programs of others know: RFC 6749 section 5.2, and one of RFC 6750. */
const REFUSALS = [
  'invalid_request',
  'invalid_client',
  'invalid_scope',
  'unauthorized_client',
  'unsupported_grant_type',
  'insufficient_scope',
] as const satisfies ProblemCode[];
type OAuthCode = (typeof REFUSALS)[number];

const isOAuthCode = (code: ProblemCode): code is OAuthCode => REFUSALS.some((known) => known === code);

const refusalSchema = (codes: readonly ProblemCode[]) =>
  Type.Object(
    {
      ...problemSchema(codes).properties,
      error: oneOf(codes),
      error_description: Type.String(),
    },
    { description: `RFC 9457 problem with the members of RFC 6749 section 5.2: ${codes.join(', ')}` },
  );

/** The `response` of a route whose refusals are RFC 6749's as well; a dependency that is down is answered as everywhere. */
function oauthAnswers(success: TSchema, ...codes: OAuthCode[]): Record<number, unknown> {
  const refusals = [...statusesOf(['invalid_request', 'invalid_client', ...codes])].map(([status, group]) => {
    const schema = refusalSchema(group);
    return [status, { content: { 'application/problem+json': { schema }, 'application/json': { schema } } }] as const;
  });
  return { ...answers({ 200: success }), ...Object.fromEntries(refusals) };
}

/** The refusal in the words of RFC 6749 section 5.2, which allows neither quotes nor what is not ASCII. */
function refusalBody(problem: Problem, requestId: string) {
  const faults = problem.details.errors?.map(({ pointer, detail }) => `${pointer.slice(1)} ${detail}`.trim()) ?? [];
  const description = [problem.message, ...faults].join('; ').replaceAll(/[^\x20\x21\x23-\x5B\x5D-\x7E]/g, '?');
  return { ...problemBody(problem, requestId), error: problem.code, error_description: description };
}

/** Clients of RFC 6749 ask for application/json and read an error from nothing else (ADR 16). */
const asksForJson = ({ headers: { accept = '' } }: FastifyRequest): boolean =>
  /(?:^|,)\s*application\/json\s*(?:$|[,;])/i.test(accept);

/** Changes with a release at most; cached for as long as the keys it names. */
const METADATA_CACHE = `public, max-age=${JWKS_MAX_AGE}`;

const BASIC = /^Basic +([A-Za-z0-9+/]+={0,2})$/i;

/** RFC 6749 section 2.3.1: id and secret are form-encoded, then joined as RFC 7617 wants it. @throws {Problem} `invalid_client` */
function credentials(request: FastifyRequest): ClientCredentials {
  const encoded = BASIC.exec(request.headers.authorization ?? '')?.[1];
  if (encoded === undefined)
    throw new Problem('invalid_client', { detail: 'The client must authenticate with HTTP Basic' });
  const text = Buffer.from(encoded, 'base64').toString();
  const colon = text.indexOf(':');
  try {
    const decode = (part: string) => decodeURIComponent(part.replaceAll('+', ' '));
    return { id: decode(text.slice(0, Math.max(0, colon))), secret: decode(text.slice(colon + 1)) };
  } catch {
    throw new Problem('invalid_client', { detail: 'The credentials are not form-encoded' });
  }
}

/**
 * RFC 6749 section 3.2: a parameter without a value was left out, and none may be given twice.
 * @throws {Problem} `invalid_request`, also for a client that authenticates in two ways (section 2.3).
 */
function readForm({ body, headers }: FastifyRequest): void {
  if (typeof body !== 'object' || body === null) return;
  for (const [name, value] of Object.entries(body)) {
    if (Array.isArray(value)) throw invalidInput(`/${escaped(name)}`, 'is given more than once');
    if (value === '') Reflect.deleteProperty(body, name);
  }
  if (headers.authorization !== undefined && 'client_secret' in body)
    throw invalidInput('/client_secret', 'must not be sent beside HTTP Basic');
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

  app.addHook('preValidation', (request, _reply, done) => {
    readForm(request);
    done();
  });

  app.setErrorHandler((error: FastifyError, request, reply) => {
    const seen = asProblem(error);
    const problem =
      seen.code === 'unsupported_media_type'
        ? new Problem('invalid_request', { detail: 'Send application/x-www-form-urlencoded' })
        : seen;
    // What RFC 6749 has no word for looks the same everywhere (plugins/problem-answers.ts).
    if (!isOAuthCode(problem.code)) throw error;
    if (problem.status === 401) reply.header('www-authenticate', 'Basic realm="latchkey", charset="UTF-8"');
    return reply
      .code(problem.status)
      .header('vary', 'accept')
      .type(asksForJson(request) ? 'application/json' : 'application/problem+json')
      .send(refusalBody(problem, request.id));
  });
  // RFC 6749 section 5.1: what is said of a token is never cached.
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store').header('pragma', 'no-cache');
    done();
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
          grant_type: Type.String({ maxLength: 100, examples: ['client_credentials'] }),
          scope: Type.Optional(Type.String({ maxLength: 1000 })),
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
      if (grant !== 'client_credentials') throw new Problem('unsupported_grant_type');
      const issued = await clients.issueToken(client, scope, requestContext(request));
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
    async (request) => {
      const { authorization = '' } = request.headers;
      return operators.introspect({ authorization, read: () => credentials(request) }, request.body.token);
    },
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
      await operators.revokeToken(credentials(request), request.body.token, requestContext(request));
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
    scopes_supported: Object.values(CLIENT_SCOPES),
    service_documentation: `${issuer}/docs`,
  };

  const METADATA = '/.well-known/oauth-authorization-server';
  const body = Type.Record(Type.String(), Type.Union([Type.String(), Type.Array(Type.String())]));
  const schema = {
    operationId: 'serverMetadata',
    tags: ['Gateways'],
    summary: 'Where what is (RFC 8414)',
    response: answers({ 200: body }),
  };
  const sendMetadata = async (_request: FastifyRequest, reply: FastifyReply) =>
    reply.header('cache-control', METADATA_CACHE).send(metadata);
  app.get(METADATA, { schema }, sendMetadata);
  // RFC 8414 section 3.1: the path of an issuer that has one stands behind, spelt as it is.
  const path = new URL(issuer).pathname.replace(/\/$/, '');
  if (path === '') return;
  const below = { hide: true, response: answers({ 200: body }, 'not_found') };
  app.get(`${METADATA}/*`, { schema: below }, async (request, reply) => {
    if (request.url.split('?')[0] !== METADATA + path) throw new Problem('not_found');
    return sendMetadata(request, reply);
  });
};
