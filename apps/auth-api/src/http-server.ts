/** The server in front of Fastify: its limits, and what is answered or refused before Fastify sees it. */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { Admission } from './admission.ts';
import { LONGEST_WAIT } from './domain/passwords.ts';
import { answerAtOnce } from './plugins/problem-answers.ts';
import type { createQuickVerify } from './plugins/quick-verify.ts';
import { invalidInput } from './problems.ts';

/**
 * Milliseconds a client may take to send its headers, and all of its request: nobody holds a connection by being slow. The first must be
 * below the second (Node swaps them if not), and Node looks as often as the third says.
 */
const HEADERS_TIMEOUT = 5000;
const REQUEST_TIMEOUT = 10_000;
const TIMEOUT_CHECK = 1000;
/**
 * Milliseconds without a byte on a connection that has a request: its answer stays in memory for as long as its client does not take it. A change
 * of password waits twice for a thread that hashes, and is answered.
 */
const IDLE_TIMEOUT = 2 * LONGEST_WAIT + 5000;
/** Connections at once; behind a load balancer there are hundreds. Any more are closed unanswered. */
const MOST_CONNECTIONS = 10_000;
/** Milliseconds an idle connection is kept: longer than load balancers keep theirs, so that they close first (Fastify's default). */
const KEEP_ALIVE_TIMEOUT = 72_000;

/** RFC 9112 section 3.2. */
const NO_HOST = invalidInput('/headers/host', 'is required');

export interface HttpServerOptions {
  /** Fastify's. */
  handler: RequestListener;
  quickVerify: ReturnType<typeof createQuickVerify>['quickVerify'];
  admit: Admission['admit'];
  /** Told of each connection closed because there were too many. */
  onDrop: () => void;
}

export function createHttpServer({ handler, quickVerify, admit, onDrop }: HttpServerOptions): Server {
  const server = createServer({
    headersTimeout: HEADERS_TIMEOUT,
    requestTimeout: REQUEST_TIMEOUT,
    connectionsCheckingInterval: TIMEOUT_CHECK,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT,
    // Node's own refusals say nothing.
    requireHostHeader: false,
  });
  server.timeout = IDLE_TIMEOUT;
  server.maxConnections = MOST_CONNECTIONS;

  const listener: RequestListener = (request, response) => {
    if (request.headers.host === undefined && request.httpVersion === '1.1') {
      answerAtOnce(NO_HOST, request, response);
      return;
    }
    const route = () => handler(request, response);
    // A closing app says so with each answer, which Fastify does.
    if (server.listening) quickVerify(request, response, (go) => admit(request, response, go), route);
    else route();
  };
  server.on('request', listener);
  // An expectation other than 100-continue (RFC 9110 section 10.1.1) is ignored.
  server.on('checkExpectation', listener);
  server.on('drop', onDrop);
  return server;
}
