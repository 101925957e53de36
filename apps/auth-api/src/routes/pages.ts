/** The pages mailed links lead to. Opening one changes nothing, however often and whoever does: only its button does. */
import fastifyStatic from '@fastify/static';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import type { Admission } from '../admission.ts';
import type { Activation } from '../domain/activation.ts';
import type { EmailChange } from '../domain/email-change.ts';
import type { PasswordReset } from '../domain/password-reset.ts';
import { ASSETS_FOLDER, createPages } from '../pages/render.ts';
import type { RateLimits } from '../rate-limits.ts';
import { activationPage } from './activation-page.ts';
import { changeEmailPage } from './change-email-page.ts';
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
    admission.assertAdmitted(request.raw);
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

  await app.register(activationPage, { prefix: '/activate', pages, activation, rateLimits });
  await app.register(resetPasswordPage, { prefix: '/reset-password', pages, passwordReset, rateLimits });
  await app.register(changeEmailPage, { prefix: '/change-email', pages, emailChange, rateLimits });
};
