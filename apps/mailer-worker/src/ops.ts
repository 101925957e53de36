/** The worker's own HTTP: whether it lives, whether it can work, what it has done. */
import Fastify, { type FastifyPluginAsync, type FastifyReply, LogController } from 'fastify';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { BOARD_PATH } from './board.ts';
import type { Readiness } from './health.ts';

/** Seconds after which a caller who was told 503 may ask again: the worker heals within a second of Redis being back. */
const RETRY_AFTER = 2;

/** Milliseconds a client may take to send all of its request (half of it for the headers), and may take nothing of its answer. */
const PATIENCE = { requestTimeout: 10_000, connectionTimeout: 30_000 };

/** Answers with RFC 9457 problem details. */
function problem(reply: FastifyReply, status: number, code: string, title: string): FastifyReply {
  return reply
    .code(status)
    .type('application/problem+json')
    .send({ type: `urn:latchkey:problem:${code}`, title, status, code, request_id: reply.request.id });
}

/** @param board the plugin of the queue board; undefined: it is off. */
export function createOpsServer(
  logger: Logger,
  readiness: () => Promise<Readiness>,
  registry: Registry,
  board?: FastifyPluginAsync,
) {
  const app = Fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    ...PATIENCE,
    http: { headersTimeout: 5000 },
  });

  app.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store');
  });
  app.setNotFoundHandler((_request, reply) => problem(reply, 404, 'not_found', 'There is nothing here'));
  app.setErrorHandler((error, request, reply) => {
    const status = error instanceof Error && 'statusCode' in error ? Number(error.statusCode) : 500;
    if (status >= 400 && status < 500) return problem(reply, status, 'invalid_request', 'The request is not valid');
    request.log.error({ err: error }, 'request failed');
    return problem(reply, 500, 'internal_error', 'Something went wrong here');
  });

  /** 200 as long as the event loop turns: it asks nobody, because a restart mends nothing outside this process. */
  app.get('/livez', async () => ({ status: 'ok' }));

  app.get('/readyz', async (_request, reply) => {
    const state = await readiness();
    if (state.status === 'unavailable') reply.code(503).header('retry-after', RETRY_AFTER);
    return state;
  });

  app.get('/metrics', async (_request, reply) => {
    reply.type(registry.contentType);
    return registry.metrics();
  });

  if (board) app.register(board, { prefix: BOARD_PATH });
  else
    for (const path of [BOARD_PATH, `${BOARD_PATH}/*`])
      app.all(path, (_request, reply) =>
        problem(reply, 404, 'board_off', 'The board is off: BOARD_API_URL is not set'),
      );

  return app;
}
