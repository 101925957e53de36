/**
 * The queue in a browser: bull-board, for operators. It shows what the queue holds; what is done to a failed mail is done by auth-api, where
 * it is recorded and where the outbox is (ADR 19).
 */
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { FastifyAdapter } from '@bull-board/fastify';
import basicAuth from '@fastify/basic-auth';
import { MAIL_QUEUE } from '@latchkey/shared/mail-jobs';
import type { RedisConnection } from '@latchkey/shared/redis-connections';
import { Queue } from 'bullmq';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { createOperatorApi } from './operator-api.ts';

export const BOARD_PATH = '/board';

/** Logins that fail, per IP address and minute. A secret has 256 random bits: this spares auth-api, it need not stop a guess. */
const MOST_FAILURES = 20;

/** Seconds after which to ask again, by status. */
const RETRY_AFTER: Readonly<Record<number, number>> = { 429: 60, 503: 2 };

/** Nothing from elsewhere (bull-board would load fonts), no frame around it. Its pages have styles in them, no scripts. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'x-robots-tag': 'noindex',
};

/** What the board may do, by bull-board's route. */
const ACTS = {
  [`${BOARD_PATH}/api/queues/:queueName/:jobId/retry`]: 'retry',
  [`${BOARD_PATH}/api/queues/:queueName/:jobId/clean`]: 'discard',
} as const;

export interface BoardOptions {
  /** `BOARD_API_URL`: clients there with scope admin may log in. */
  readonly apiUrl: string;
  /** A connection that fails fast. */
  readonly redis: RedisConnection;
  readonly prefix: string;
  readonly onError: (error: unknown) => void;
}

/** A refusal, as Fastify and bull-board understand it. */
const refusal = (statusCode: number, message: string) => Object.assign(new Error(message), { statusCode });

/**
 * Whether it comes from the board itself: a browser sends the credentials along with what other sites ask for too. One that names no origin
 * is no browser. (`Sec-Fetch-Site` is only sent over TLS.)
 */
function isOwn({ headers }: FastifyRequest): boolean {
  const { origin, host, 'sec-fetch-site': site } = headers;
  if (site !== undefined) return site === 'same-origin';
  return origin === undefined || URL.parse(origin)?.host === host;
}

/** A plugin for the prefix {@link BOARD_PATH}. */
export function createBoard({ apiUrl, redis, prefix, onError }: BoardOptions) {
  const api = createOperatorApi(apiUrl);
  const failures = new RateLimiterMemory({ points: MOST_FAILURES, duration: 60 });
  const tokens = new WeakMap<FastifyRequest, string>();
  const pages = new FastifyAdapter().setBasePath(BOARD_PATH);
  const board = createBullBoard({
    queues: [],
    serverAdapter: pages,
    options: { uiConfig: { boardTitle: 'Latchkey', hideDocsLink: true, hideRedisDetails: true, showWorkers: false } },
  });
  let queue: Queue | undefined;

  /** Waits for the queue; BullMQ prepares one once, and after a preparation that failed another is made. @throws {Error} with status 503. */
  async function openQueue(): Promise<void> {
    if (redis.status !== 'ready') throw refusal(503, 'Redis is away');
    if (queue === undefined) {
      queue = new Queue(MAIL_QUEUE, { connection: redis, prefix, skipMetasUpdate: true });
      queue.on('error', onError);
      board.replaceQueues([new BullMQAdapter(queue)]);
    }
    const opened = queue;
    await opened.waitUntilReady().catch(() => {
      if (queue === opened) queue = undefined;
      throw refusal(503, 'Redis does not answer');
    });
  }

  /** @throws {Error} with status 401, 429 or 503. */
  async function logIn(id: string, secret: string, ip: string): Promise<string> {
    // Counted before it is tried, so that many at once are too; a login that succeeds is taken back.
    await failures.consume(ip).catch((limit: unknown) => {
      throw limit instanceof RateLimiterRes ? refusal(429, 'Too many logins failed') : limit;
    });
    const token = await api.logIn(id, secret);
    if (token === undefined) throw refusal(401, 'Not the id and secret of a client with scope admin');
    await failures.reward(ip);
    return token;
  }

  async function act(what: 'retry' | 'discard', request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { jobId = '' } = request.params as { jobId?: string };
    const done = await api.act(tokens.get(request) ?? '', what, jobId, request.headers['user-agent'] ?? 'board');
    if (!done) throw refusal(404, 'This mail has not failed, or is settled already');
    request.log.info({ mail_id: jobId, act: what }, 'done to a failed mail by the board');
    return reply.code(204).send();
  }

  return async (app: FastifyInstance): Promise<void> => {
    await app.register(basicAuth, {
      authenticate: { realm: 'Latchkey board: id and secret of a client with scope admin' },
      async validate(id, secret, request) {
        const token = (await api.remembered(id, secret)) ?? (await logIn(id, secret, request.ip));
        tokens.set(request, token);
      },
    });

    app.addHook('onSend', async (_request, reply) => {
      reply.headers(HEADERS);
      const wait = RETRY_AFTER[reply.statusCode];
      if (wait !== undefined) reply.header('retry-after', wait);
    });
    app.addHook('onRequest', app.basicAuth);
    app.addHook('onRequest', async (request, reply) => {
      if (request.method === 'GET' || request.method === 'HEAD') return;
      if (!isOwn(request)) throw refusal(403, 'The board only takes what its own pages ask for');
      const what = Object.entries(ACTS).find(([route]) => route === request.routeOptions.url)?.[1];
      if (what === undefined) throw refusal(403, 'The board retries and discards failed mails, one at a time');
      return act(what, request, reply);
    });
    app.addHook('preHandler', openQueue);
    app.addHook('onClose', () => queue?.close());

    await app.register(pages.registerPlugin());
  };
}
