/** The page a mailed password reset link leads to: a form for the new password. It works without JavaScript. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import type { DeadKey } from '../domain/mailed-key.ts';
import type { PasswordReset, ResetState } from '../domain/password-reset.ts';
import type { Pages } from '../pages/render.ts';
import { Problem } from '../problems.ts';
import type { RateLimits } from '../rate-limits.ts';
import { FormLanguage, pageAnswers, servePages } from './page-kit.ts';
import { requestContext } from './request-context.ts';
import { KeyParams, NewPassword } from './schemas.ts';

/** Any password, so that one that is too short or too long is answered by the form and not by a refusal. */
const Form = Type.Object(
  { new_password: Type.String({ format: 'password' }), lang: FormLanguage },
  { additionalProperties: false },
);

const DEAD = {
  expired: { code: 410, page: { name: 'resetExpired' } },
  used: { code: 410, page: { name: 'resetUsed' } },
  unknown: { code: 404, page: { name: 'resetUnknown' } },
} as const satisfies Record<DeadKey['status'], object>;

const localeOf = (state: ResetState) => ('locale' in state ? state.locale : undefined);

export interface ResetPasswordPageOptions {
  pages: Pages;
  passwordReset: PasswordReset;
  rateLimits: RateLimits;
}

export const resetPasswordPage: FastifyPluginAsyncTypebox<ResetPasswordPageOptions> = async (page, options) => {
  const { pages, passwordReset, rateLimits } = options;
  const htmlOf = await servePages(page, pages, {
    unknown: { name: 'resetUnknown' },
    // A password is not sent back to be posted again.
    retry: () => undefined,
  });

  page.get(
    '/:key',
    {
      schema: {
        operationId: 'resetPasswordPage',
        tags: ['Pages'],
        summary: 'The page the mail links to: a form for the new password',
        description:
          'GET and HEAD change nothing. In the language of the account, else of `Accept-Language`, else English.',
        params: KeyParams,
        response: pageAnswers({
          200: 'The form',
          404: 'Not known, or replaced by a newer link',
          410: 'Expired, or used',
        }),
      },
    },
    async (request, reply) => {
      await rateLimits.consume('mailedKeyPerIp', request.ip);
      const state = await passwordReset.inspect(request.params.key);
      if (state.status !== 'pending') {
        reply.code(DEAD[state.status].code);
        return htmlOf(DEAD[state.status].page, request, reply, localeOf(state));
      }
      const validFor = state.worksFor / 1000;
      return htmlOf({ name: 'choosePassword', email: state.email, validFor }, request, reply, state.locale);
    },
  );

  page.post(
    '/:key',
    {
      schema: {
        operationId: 'submitResetPasswordPage',
        tags: ['Pages'],
        summary: 'What the form of the page does; grants no session',
        description: 'Sets the new password exactly once and ends every session. `lang` is the language of the page.',
        consumes: ['application/x-www-form-urlencoded'],
        params: KeyParams,
        body: Form,
        response: pageAnswers({
          200: 'The new password is set',
          400: 'The form again: the password is too easy to guess. Or what the browser sent is not understood',
          404: 'Not known, or replaced by a newer link',
          410: 'Expired, or used',
        }),
      },
    },
    async (request, reply) => {
      await rateLimits.consume('mailedKeyPerIp', request.ip);
      const { key } = request.params;
      const { new_password: newPassword } = request.body;
      const state = await passwordReset.inspect(key);
      const outcome = state.status !== 'pending' ? state : await attempt(key, newPassword, requestContext(request));
      if (outcome.status === 'reset') return htmlOf({ name: 'passwordSet' }, request, reply, localeOf(state));
      if (outcome.status === 'weak' && state.status === 'pending') {
        reply.code(400);
        return htmlOf({ name: 'weakPassword', email: state.email }, request, reply, state.locale);
      }
      const dead = outcome.status === 'expired' || outcome.status === 'used' ? DEAD[outcome.status] : DEAD.unknown;
      reply.code(dead.code);
      return htmlOf(dead.page, request, reply, localeOf(state));
    },
  );

  async function attempt(key: string, password: string, context: ReturnType<typeof requestContext>) {
    if (!Value.Check(NewPassword, password)) return { status: 'weak' } as const;
    try {
      return await passwordReset.reset(key, password, context);
    } catch (error) {
      if (error instanceof Problem && error.code === 'password_too_weak') return { status: 'weak' } as const;
      throw error;
    }
  }
};
