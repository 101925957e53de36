/** The other end of `PUT /v1/me/email`: the new address confirms. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { EmailChange } from '../domain/email-change.ts';
import { Problem } from '../problems.ts';
import type { RateLimits } from '../rate-limits.ts';
import { requestContext } from './request-context.ts';
import { answers, KeyParams, NoBody } from './schemas.ts';

export interface EmailChangeRoutesOptions {
  emailChange: EmailChange;
  rateLimits: RateLimits;
}

export const emailChangeRoutes: FastifyPluginAsyncTypebox<EmailChangeRoutesOptions> = async (app, options) => {
  const { emailChange, rateLimits } = options;

  app.post(
    '/email-changes/:key',
    {
      schema: {
        operationId: 'confirmEmailChange',
        tags: ['Accounts'],
        summary: 'Confirm the new address: exactly one call with a key does. The former one is told by mail',
        params: KeyParams,
        body: NoBody,
        response: answers(
          { 200: Type.Object({ user: Type.Object({ id: Type.String(), email: Type.String() }) }) },
          'email_change_key_unknown',
          'email_change_key_expired',
          'email_change_key_used',
          'rate_limited',
        ),
      },
    },
    async (request) => {
      await rateLimits.consume('mailedKeyPerIp', request.ip);
      const outcome = await emailChange.confirm(request.params.key, requestContext(request));
      if (outcome.status !== 'changed') throw new Problem(`email_change_key_${outcome.status}`);
      return { user: outcome.user };
    },
  );
};
