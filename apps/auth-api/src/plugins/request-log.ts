/** One id, one line and one measurement per request. Never the URL: the path of a mailed link is a secret. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import type { Metrics } from '../metrics.ts';

const SANE_REQUEST_ID = /^[\w.:@=+/-]{1,128}$/;

/** The caller's `X-Request-Id` if it is one that can stand in a log line, else a new one. */
export function requestId(request: { headers: IncomingMessage['headers'] }): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && SANE_REQUEST_ID.test(given) ? given : randomUUID();
}

/** Routes that machines call all the time: their lines and spans would drown the rest. */
export const QUIET = new Set(['/livez', '/readyz', '/metrics', '/v1/verify']);

export const requestLog = fp(
  async (app: FastifyInstance, { metrics }: { metrics: Metrics }) => {
    app.addHook('onRequest', (request, reply, done) => {
      reply.header('x-request-id', request.id);
      done();
    });
    app.addHook('onResponse', (request, reply, done) => {
      const route = request.routeOptions.url ?? 'unmatched';
      const { method } = request;
      metrics.requests.observe({ route, method, status: reply.statusCode }, reply.elapsedTime / 1000);
      if (!QUIET.has(route)) {
        request.log.info(
          {
            request_id: request.id,
            method,
            route,
            status: reply.statusCode,
            ms: Math.round(reply.elapsedTime * 10) / 10,
            ip: request.ip,
          },
          'request',
        );
      }
      done();
    });
  },
  { name: 'request-log' },
);
