/** The page that an activation mail leads to. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import type { Activation, DeadActivationKey } from '../domain/activation.ts';
import type { Pages } from '../pages/render.ts';
import type { RateLimits } from '../rate-limits.ts';
import { FormLanguage, pageAnswers, servePages } from './page-kit.ts';
import { requestContext } from './request-context.ts';
import { KeyParams, oneOf } from './schemas.ts';

const ACTIVATION_ACTIONS = ['activate', 'renew'] as const;
const Form = Type.Object({ action: oneOf(ACTIVATION_ACTIONS), lang: FormLanguage }, { additionalProperties: false });

const DEAD = {
  expired: { code: 410, page: { name: 'expired' } },
  used: { code: 410, page: { name: 'used' } },
  superseded: { code: 404, page: { name: 'superseded' } },
  unknown: { code: 404, page: { name: 'unknown' } },
} as const satisfies Record<DeadActivationKey['status'], object>;

export interface ActivationPageOptions {
  pages: Pages;
  activation: Activation;
  rateLimits: RateLimits;
}

export const activationPage: FastifyPluginAsyncTypebox<ActivationPageOptions> = async (
  page,
  { pages, activation, rateLimits },
) => {
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
      const locale = 'locale' in state ? state.locale : undefined;
      if (state.status !== 'pending') {
        reply.code(DEAD[state.status].code);
        return htmlOf(DEAD[state.status].page, request, reply, locale);
      }
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
        if (status === 'renewed') return htmlOf({ name: 'renewed' }, request, reply);
        reply.code(DEAD[status].code);
        return htmlOf(DEAD[status].page, request, reply);
      }
      const outcome = await activation.activate(key, requestContext(request));
      if (outcome.status === 'activated')
        return htmlOf({ name: 'activated', email: outcome.user.email }, request, reply);
      reply.code(DEAD[outcome.status].code);
      return htmlOf(DEAD[outcome.status].page, request, reply);
    },
  );
};
