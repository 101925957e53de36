/**
 * A span for each request, by OpenTelemetry's conventions for HTTP servers, with the route's template in place of the path: that of a mailed link
 * is a secret. Registered only where traces are on.
 */
import { type Tracing, traceIds } from '@latchkey/shared/tracing';
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import { requestContext } from '../routes/request-context.ts';
import { QUIET } from './request-log.ts';

export const requestSpans = fp(
  async (app: FastifyInstance, { tracing }: { tracing: Tracing }) => {
    app.addHook('onRequest', (request, reply, done) => {
      const { method, protocol } = request;
      const route = request.routeOptions.url;
      if (route !== undefined && QUIET.has(route)) {
        done();
        return;
      }
      const span = tracing.begin(
        route === undefined ? method : `${method} ${route}`,
        'SERVER',
        requestContext(request).traceparent,
        { 'http.request.method': method, 'url.scheme': protocol, ...(route !== undefined && { 'http.route': route }) },
      );
      // From here on it is a request of its span, as if a proxy had sent it: to the outbox and the logs.
      request.headers.traceparent = span.traceparent;
      request.log = request.log.child(traceIds(span.traceparent));
      reply.log = request.log;
      // After the answer, or when the caller went away.
      reply.raw.once('close', () => {
        const { headersSent, statusCode } = reply.raw;
        if (!headersSent) span.end({}, 'caller_went_away');
        else span.end({ 'http.response.status_code': statusCode }, statusCode >= 500 ? String(statusCode) : undefined);
      });
      done();
    });
  },
  { name: 'request-spans' },
);
