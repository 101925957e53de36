/** The page a mailed link leads to. Opening it changes nothing, however often and whoever does: only its button does. */
import formbody from '@fastify/formbody';
import fastifyStatic from '@fastify/static';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import type { Activation, DeadKey } from '../domain/activation.ts';
import { chooseLanguage } from '../pages/language.ts';
import { ACTIONS, ASSETS_FOLDER, createPages, type Page } from '../pages/render.ts';
import { texts } from '../pages/strings.ts';
import type { RateLimits } from '../rate-limits.ts';
import { requestContext } from './request-context.ts';

/** Nothing from elsewhere, nothing inline, no frame around it, and no word to anybody about where the visitor came from. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'x-robots-tag': 'noindex',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-store',
};

/** Seconds a browser keeps an asset whose address has the fingerprint of its content: a year, which is for ever (RFC 9111 has no more). */
const KEEP_ASSET = 31_536_000;

const oneOf = <const T extends string>(values: readonly T[]) => Type.Union(values.map((value) => Type.Literal(value)));

/** Any text: people mangle links, and are told so by a page that helps. */
const KeyParams = Type.Object({ key: Type.String({ description: '32 base62 characters, from the mailed link' }) });
const Form = Type.Object(
  {
    action: oneOf(ACTIONS),
    lang: Type.Optional(oneOf(Object.keys(texts))),
  },
  { additionalProperties: false },
);

const STATUS_OF = { pending: 200, expired: 410, used: 410, superseded: 404, unknown: 404 } as const satisfies Record<
  DeadKey['status'] | 'pending',
  number
>;

/** The `response` of a page's route: HTML under every status it can have, what went wrong included. */
function pageAnswers(own: Record<number, string>): Record<number, unknown> {
  const everywhere = {
    400: 'What the browser sent is not understood',
    413: 'The body is too large',
    415: 'The body is not a form',
    429: 'Too many requests; says how long to wait',
    500: 'A fault here',
    503: 'A part this service needs is away; offers to try again',
  };
  return Object.fromEntries(
    Object.entries({ ...everywhere, ...own }).map(([status, description]) => [
      status,
      { description, content: { 'text/html': { schema: Type.String() } } },
    ]),
  );
}

export interface PageRoutesOptions {
  activation: Activation;
  rateLimits: RateLimits;
  publicUrl: string;
}

export const pageRoutes: FastifyPluginAsyncTypebox<PageRoutesOptions> = async (
  app,
  { activation, rateLimits, publicUrl },
) => {
  const pages = createPages(publicUrl);

  app.addHook('onRequest', async (_request, reply) => {
    reply.headers(HEADERS);
  });

  await app.register(async (assets) => {
    assets.addHook('onRequest', async (request: FastifyRequest<{ Querystring: { v?: unknown } }>, reply) => {
      // Another release's fingerprint, as while instances are replaced: this content must not be kept under it.
      const own = request.query.v === pages.fingerprint;
      reply.header('cache-control', own ? `public, max-age=${KEEP_ASSET}, immutable` : 'no-cache');
    });
    await assets.register(fastifyStatic, {
      root: ASSETS_FOLDER,
      prefix: '/assets/',
      wildcard: false,
      index: false,
      cacheControl: false,
      decorateReply: false,
    });
  });

  const activationPage: FastifyPluginAsyncTypebox = async (page) => {
    // A page is posted by a form; whatever else comes is answered 415.
    page.removeAllContentTypeParsers();
    await page.register(formbody);

    function htmlOf(content: Page, request: FastifyRequest, reply: FastifyReply, known?: string): string {
      const asked = Value.Check(Form, request.body) ? request.body.lang : undefined;
      const language = chooseLanguage(asked ?? known, request.headers['accept-language']);
      reply.header('content-language', language).type('text/html; charset=utf-8');
      return pages.render(content, language);
    }

    // What goes wrong is classified, counted and logged where it is for every route (problem-answers.ts); people get it as a page.
    page.addHook('onSend', async (request, reply, payload) => {
      if (!String(reply.getHeader('content-type')).startsWith('application/problem+json')) return payload;
      return htmlOf(failurePage(request, reply), request, reply);
    });

    page.get(
      '/:key',
      {
        schema: {
          operationId: 'activationPage',
          tags: ['Pages'],
          summary:
            'The page the mail links to: a button that activates or, when the link has expired, one that sends a new link',
          description:
            'GET and HEAD change nothing. In the language of the registration, else of `Accept-Language`, else English.',
          params: KeyParams,
          response: pageAnswers({
            200: 'Can be activated',
            404: 'Not known, or replaced by a newer link',
            410: 'Expired, or used',
          }),
        },
      },
      async (request, reply) => {
        await rateLimits.consume('activationPerIp', request.ip);
        const now = Date.now();
        const state = await activation.inspect(request.params.key, now);
        reply.code(STATUS_OF[state.status]);
        const locale = 'locale' in state ? state.locale : undefined;
        if (state.status !== 'pending') return htmlOf({ name: state.status }, request, reply, locale);
        const validFor = (state.expiresAt.getTime() - now) / 1000;
        return htmlOf({ name: 'pending', email: state.email, validFor }, request, reply, locale);
      },
    );

    page.post(
      '/:key',
      {
        schema: {
          operationId: 'submitActivationPage',
          tags: ['Pages'],
          summary: 'What the button of the page does; grants no session',
          description:
            '`activate` does so exactly once; `renew` mails a fresh link in place of this one. `lang` is the language of the page.',
          consumes: ['application/x-www-form-urlencoded'],
          params: KeyParams,
          body: Form,
          response: pageAnswers({
            200: 'Activated, or a fresh link is on its way',
            404: 'Not known, or replaced by a newer link',
            410: 'Expired, or used',
          }),
        },
      },
      async (request, reply) => {
        await rateLimits.consume('activationPerIp', request.ip);
        const { key } = request.params;
        if (request.body.action === 'renew') {
          const { status } = await activation.renew(key, requestContext(request));
          if (status !== 'renewed') reply.code(STATUS_OF[status]);
          return htmlOf({ name: status }, request, reply);
        }
        const outcome = await activation.activate(key);
        if (outcome.status === 'activated')
          return htmlOf({ name: 'activated', email: outcome.user.email }, request, reply);
        reply.code(STATUS_OF[outcome.status]);
        return htmlOf({ name: outcome.status }, request, reply);
      },
    );

    // A link that lost a piece or gained one on its way.
    page.setNotFoundHandler(async (request, reply) => {
      reply.code(404);
      return htmlOf({ name: 'unknown' }, request, reply);
    });
  };
  await app.register(activationPage, { prefix: '/activate' });
};

/** The page for a request that was refused: what its button does is what was refused. */
function failurePage({ method, body }: FastifyRequest, reply: FastifyReply): Page {
  const retry = method === 'POST' && Value.Check(Form, body) ? { retry: body.action } : {};
  if (reply.statusCode === 429) return { name: 'limited', wait: Number(reply.getHeader('retry-after')), ...retry };
  if (reply.statusCode === 503) return { name: 'unavailable', ...retry };
  return reply.statusCode < 500 ? { name: 'invalid' } : { name: 'failed', ...retry };
}
