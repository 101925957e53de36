/** The pages mailed links lead to. Opening one changes nothing, however often and whoever does: only its button does. */
import fastifyStatic from '@fastify/static';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import type { Admission } from '../admission.ts';
import type { Activation, DeadKey } from '../domain/activation.ts';
import type { EmailChange } from '../domain/email-change.ts';
import type { PasswordReset } from '../domain/password-reset.ts';
import { ASSETS_FOLDER, createPages } from '../pages/render.ts';
import type { RateLimits } from '../rate-limits.ts';
import { changeEmailPage } from './change-email-page.ts';
import { FormLanguage, KeyParams, oneOf, pageAnswers, servePages } from './page-kit.ts';
import { requestContext } from './request-context.ts';
import { resetPasswordPage } from './reset-password-page.ts';

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

const ACTIVATION_ACTIONS = ['activate', 'renew'] as const;
const Form = Type.Object({ action: oneOf(ACTIVATION_ACTIONS), lang: FormLanguage }, { additionalProperties: false });

const STATUS_OF = { pending: 200, expired: 410, used: 410, superseded: 404, unknown: 404 } as const satisfies Record<
  DeadKey['status'] | 'pending',
  number
>;

export interface PageRoutesOptions {
  admission: Admission;
  activation: Activation;
  passwordReset: PasswordReset;
  emailChange: EmailChange;
  rateLimits: RateLimits;
  publicUrl: string;
}

export const pageRoutes: FastifyPluginAsyncTypebox<PageRoutesOptions> = async (
  app,
  { admission, activation, passwordReset, emailChange, rateLimits, publicUrl },
) => {
  const pages = createPages(publicUrl);

  app.addHook('onRequest', async (request, reply) => {
    reply.headers(HEADERS);
    admission.demand(request.raw);
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
    const htmlOf = await servePages(page, pages, {
      unknown: { name: 'unknown' },
      retry: (body) => (Value.Check(Form, body) ? body.action : undefined),
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
        await rateLimits.consume('mailedKeyPerIp', request.ip);
        const state = await activation.inspect(request.params.key);
        reply.code(STATUS_OF[state.status]);
        const locale = 'locale' in state ? state.locale : undefined;
        if (state.status !== 'pending') return htmlOf({ name: state.status }, request, reply, locale);
        const validFor = state.worksFor / 1000;
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
        await rateLimits.consume('mailedKeyPerIp', request.ip);
        const { key } = request.params;
        if (request.body.action === 'renew') {
          const { status } = await activation.renew(key, requestContext(request));
          if (status !== 'renewed') reply.code(STATUS_OF[status]);
          return htmlOf({ name: status }, request, reply);
        }
        const outcome = await activation.activate(key, requestContext(request));
        if (outcome.status === 'activated')
          return htmlOf({ name: 'activated', email: outcome.user.email }, request, reply);
        reply.code(STATUS_OF[outcome.status]);
        return htmlOf({ name: outcome.status }, request, reply);
      },
    );
  };
  await app.register(activationPage, { prefix: '/activate' });
  await app.register(resetPasswordPage, { prefix: '/reset-password', pages, passwordReset, rateLimits });
  await app.register(changeEmailPage, { prefix: '/change-email', pages, emailChange, rateLimits });
};
