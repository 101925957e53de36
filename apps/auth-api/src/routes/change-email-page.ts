/** The page a link to another address leads to: a button that confirms it. Opening it changes nothing. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import type { EmailChange } from '../domain/email-change.ts';
import type { DeadKey } from '../domain/mailed-key.ts';
import type { Pages } from '../pages/render.ts';
import type { RateLimits } from '../rate-limits.ts';
import { FormLanguage, pageAnswers, servePages } from './page-kit.ts';
import { requestContext } from './request-context.ts';
import { KeyParams } from './schemas.ts';

const Form = Type.Object({ action: Type.Literal('confirm'), lang: FormLanguage }, { additionalProperties: false });

const DEAD = {
  expired: { code: 410, page: { name: 'changeExpired' } },
  used: { code: 410, page: { name: 'changeUsed' } },
  unknown: { code: 404, page: { name: 'changeUnknown' } },
} as const satisfies Record<DeadKey['status'], object>;

export interface ChangeEmailPageOptions {
  pages: Pages;
  emailChange: EmailChange;
  rateLimits: RateLimits;
}

export const changeEmailPage: FastifyPluginAsyncTypebox<ChangeEmailPageOptions> = async (page, options) => {
  const { pages, emailChange, rateLimits } = options;
  const htmlOf = await servePages(page, pages, {
    unknown: { name: 'changeUnknown' },
    retry: (body) => (Value.Check(Form, body) ? body.action : undefined),
  });
  const answers = (ok: string) =>
    pageAnswers({ 200: ok, 404: 'Not known, or replaced by a newer link', 410: 'Expired, or used' });

  page.get(
    '/:key',
    {
      schema: {
        operationId: 'changeEmailPage',
        tags: ['Pages'],
        summary: 'The page the mail to the new address links to: a button that confirms it',
        description:
          'GET and HEAD change nothing. In the language of the account, else of `Accept-Language`, else English.',
        params: KeyParams,
        response: answers('Can be confirmed'),
      },
    },
    async (request, reply) => {
      await rateLimits.consume('mailedKeyPerIp', request.ip);
      const state = await emailChange.inspect(request.params.key);
      const locale = 'locale' in state ? state.locale : undefined;
      if (state.status !== 'pending') {
        reply.code(DEAD[state.status].code);
        return htmlOf(DEAD[state.status].page, request, reply, locale);
      }
      const validFor = state.worksFor / 1000;
      return htmlOf({ name: 'confirmAddress', email: state.email, validFor }, request, reply, locale);
    },
  );

  page.post(
    '/:key',
    {
      schema: {
        operationId: 'submitChangeEmailPage',
        tags: ['Pages'],
        summary: 'What the button of the page does',
        description: 'Confirms exactly once. `lang` is the language of the page.',
        consumes: ['application/x-www-form-urlencoded'],
        params: KeyParams,
        body: Form,
        response: answers('Confirmed'),
      },
    },
    async (request, reply) => {
      await rateLimits.consume('mailedKeyPerIp', request.ip);
      const outcome = await emailChange.confirm(request.params.key, requestContext(request));
      if (outcome.status === 'changed')
        return htmlOf({ name: 'addressConfirmed', email: outcome.user.email }, request, reply);
      reply.code(DEAD[outcome.status].code);
      return htmlOf(DEAD[outcome.status].page, request, reply);
    },
  );
};
