/** Turns whatever goes wrong into one RFC 9457 answer, one log line and, for a dependency that is down, a metric. */
import { randomUUID } from 'node:crypto';
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { FastifySchemaValidationError } from 'fastify/types/schema.js';
import fp from 'fastify-plugin';
import { unavailableDependency } from '../dependency-errors.ts';
import type { Metrics } from '../metrics.ts';
import { NotReady } from '../not-ready.ts';
import { challenge, type InputError, invalidInput, Problem, type ProblemCode, problemBody } from '../problems.ts';
import { requestId } from './request-log.ts';

/** Bytes of a body at most: passwords of 256 characters and every form fit many times over. */
export const BODY_LIMIT = 16 * 1024;

/** Seconds after which a caller may try again when a dependency is down: a client connects at most a second apart, and needs another to be ready. */
export const RETRY_AFTER = 2;

/** Fastify's own refusals. What is not listed and not below 500 is ours to explain. */
const FASTIFY_CODES: Record<string, (error: FastifyError) => Problem> = {
  FST_ERR_CTP_BODY_TOO_LARGE: () =>
    new Problem('body_too_large', { detail: `A body may have ${BODY_LIMIT / 1024} KiB` }),
  FST_ERR_CTP_INVALID_MEDIA_TYPE: () => new Problem('unsupported_media_type', { detail: 'Send application/json' }),
  FST_ERR_CTP_EMPTY_JSON_BODY: () => invalidBody('is empty, but JSON is expected'),
  FST_ERR_CTP_INVALID_JSON_BODY: () => invalidBody('is not valid JSON'),
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: () => invalidBody('has another length than Content-Length says'),
  FST_ERR_MAX_PARAM_LENGTH: () => new Problem('uri_too_long'),
  FST_ERR_BAD_URL: () => invalidInput('/path', 'is not a valid path'),
};

export const invalidBody = (detail: string) => invalidInput('', `The body ${detail}`);

/** A request can have thousands of faults; whoever mends so many asks again. */
const MOST_FAULTS = 20;

/** Where ajv saw the faults, each as a pointer that names the field, a missing or unknown one too. */
function inputErrors({ validation = [], validationContext }: FastifyError): InputError[] {
  const place =
    validationContext === 'body' ? '' : `/${validationContext === 'querystring' ? 'query' : validationContext}`;
  // One field may break several rules: the first of each says enough.
  const told = new Map<string, InputError>();
  for (const fault of validation) {
    const { at, detail } = inputError(fault);
    const pointer = `${place}${at}`;
    if (!told.has(pointer)) told.set(pointer, { pointer, detail });
    if (told.size === MOST_FAULTS) break;
  }
  return [...told.values()];
}

function inputError(fault: FastifySchemaValidationError): { at: string; detail: string } {
  const { instancePath, keyword, params } = fault;
  switch (keyword) {
    case 'required':
      return { at: `${instancePath}/${escaped(params.missingProperty)}`, detail: 'is required' };
    case 'additionalProperties':
      return { at: `${instancePath}/${escaped(params.additionalProperty)}`, detail: 'is not a known field' };
    default:
      return { at: instancePath, detail: expectation(fault) ?? 'is not valid' };
  }
}

/** A name as one part of a pointer (RFC 6901 section 3); ajv's `instancePath` is one already. */
export const escaped = (name: unknown): string => String(name).replaceAll('~', '~0').replaceAll('/', '~1');

/** A regular expression explains nothing to a person: the schema's description says in words what it wants (ajv's `verbose`). */
function expectation(fault: FastifySchemaValidationError): string | undefined {
  if (fault.keyword !== 'pattern') return fault.message;
  const schema = 'parentSchema' in fault ? fault.parentSchema : undefined;
  const described = typeof schema === 'object' && schema !== null && 'description' in schema;
  return `must be ${described ? schema.description : 'in the documented form'}`;
}

/** What went wrong, as the problem that tells of it. */
export function asProblem(error: FastifyError): Problem {
  if (error instanceof Problem) return error;
  if (error.validation) return new Problem('invalid_request', { errors: inputErrors(error) });
  const known = FASTIFY_CODES[error.code];
  if (known) return known(error);
  // Why is for operators: `/readyz` and the log say it.
  if (error instanceof NotReady)
    return new Problem('dependency_unavailable', {
      detail: `${error.dependency ?? 'this instance'} is not ready`,
      retryAfter: RETRY_AFTER,
      cause: error,
    });
  const dependency = unavailableDependency(error);
  if (dependency)
    return new Problem('dependency_unavailable', {
      detail: `${dependency} is not available`,
      retryAfter: RETRY_AFTER,
      cause: error,
    });
  if (error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500)
    return invalidBody('cannot be read');
  return new Problem('internal_error', { cause: error });
}

/** Sends a problem with the headers its status wants. */
function sendProblem(problem: Problem, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const authenticate = challenge(problem);
  if (authenticate !== undefined) reply.header('www-authenticate', authenticate);
  if (problem.status === 429 || problem.status === 503)
    reply.header('retry-after', problem.details.retryAfter ?? RETRY_AFTER);
  return reply
    .code(problem.status)
    .header('cache-control', 'no-store')
    .type('application/problem+json')
    .send(problemBody(problem, request.id));
}

/**
 * Fastify's `frameworkErrors`: what it refuses before there is a route (a path that can't be decoded, a parameter that is too long). Its own
 * answer would repeat the path, and a path may hold a key.
 */
export function answerFrameworkError(error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  reply.header('x-request-id', request.id);
  sendProblem(asProblem(error), request, reply);
}

/** Node's parser errors by code: nothing of the request is known yet. */
const CLIENT_ERRORS: Record<string, ProblemCode> = {
  HPE_HEADER_OVERFLOW: 'headers_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
};

/** Fastify's `clientErrorHandler`: what is no HTTP, or not in time. The connection ends with the answer. */
export function answerClientError(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return;
  const problem = new Problem(CLIENT_ERRORS[error.code ?? ''] ?? 'invalid_request');
  const body = JSON.stringify(problemBody(problem, randomUUID()));
  socket.end(
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}\r\nContent-Type: application/problem+json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}

/**
 * Answers where there is no Fastify yet. Node reads the request's body and throws it away, so that the connection can go on: another one would
 * cost more than all the rest.
 */
export function answerAtOnce(
  problem: Problem,
  request: IncomingMessage,
  response: ServerResponse,
  headers: readonly string[] = [],
): void {
  const id = requestId(request);
  const body = JSON.stringify(problemBody(problem, id));
  response
    .writeHead(problem.status, [
      ...['x-request-id', id, 'cache-control', 'no-store', ...headers],
      ...['content-type', 'application/problem+json', 'content-length', String(Buffer.byteLength(body))],
    ])
    .end(body);
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The methods of the routes at this URL. */
    allowedAt(url: string): string[];
  }
}

export const problemAnswers = fp(
  async (app: FastifyInstance, { metrics }: { metrics: Metrics }) => {
    app.setErrorHandler((error: FastifyError, request, reply) => {
      const problem = asProblem(error);
      if (problem.code === 'dependency_unavailable') {
        const dependency = unavailableDependency(problem.cause) ?? 'unknown';
        metrics.dependencyErrors.inc({ dependency });
        request.log.error(
          { request_id: request.id, err: problem.cause, dependency, route: request.routeOptions.url },
          'a dependency is down',
        );
      } else if (problem.code === 'internal_error') {
        // (Not `overloaded`: thousands of refusals are not thousands of errors. The request's own line and metric tell of it.)
        request.log.error(
          { request_id: request.id, err: problem.cause ?? problem, route: request.routeOptions.url },
          'request failed',
        );
      }
      return sendProblem(problem, request, reply);
    });
    const routes: { path: RegExp; method: string }[] = [];
    app.addHook('onRoute', ({ url, method }) => {
      const path = new RegExp(
        `^${url
          .replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&')
          .replaceAll(/:[^/]+/g, '[^/]+')
          .replaceAll('*', '.*')}$`,
      );
      for (const one of [method].flat()) routes.push({ path, method: one });
    });
    app.decorate('allowedAt', (url: string) => {
      const path = url.split('?', 1)[0] ?? '';
      return [...new Set(routes.filter((route) => route.path.test(path)).map(({ method }) => method))].toSorted();
    });
    app.setNotFoundHandler((request, reply) => {
      // RFC 9110 section 15.5.6: a resource that exists names what it can do.
      const allowed = app.allowedAt(request.url);
      if (allowed.length === 0) return sendProblem(new Problem('not_found'), request, reply);
      reply.header('allow', allowed.join(', '));
      return sendProblem(new Problem('method_not_allowed'), request, reply);
    });
  },
  { name: 'problem-answers' },
);
