/** A new password by mail. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { DeadKey } from '../domain/mailed-key.ts';
import type { PasswordReset } from '../domain/password-reset.ts';
import { Problem } from '../problems.ts';
import type { RateLimits } from '../rate-limits.ts';
import { requestContext } from './request-context.ts';
import { answers, Email, Instant, KeyParams, NewPassword, NoContent } from './schemas.ts';

const KEY_REFUSALS = [
  'password_reset_key_unknown',
  'password_reset_key_expired',
  'password_reset_key_used',
  'rate_limited',
] as const;

const dead = ({ status }: DeadKey) => new Problem(`password_reset_key_${status}`);

export interface PasswordResetRoutesOptions {
  passwordReset: PasswordReset;
  rateLimits: RateLimits;
}

export const passwordResetRoutes: FastifyPluginAsyncTypebox<PasswordResetRoutesOptions> = async (app, options) => {
  const { passwordReset, rateLimits } = options;

  app.post(
    '/password-resets',
    {
      schema: {
        operationId: 'requestPasswordReset',
        tags: ['Accounts'],
        summary: 'Mail a link to a new password',
        description:
          'If the address has an account, it is mailed a link and its older ones are dead. Else nothing is mailed. The answer is the same.',
        body: Type.Object({ email: Email }, { additionalProperties: false }),
        response: answers({ 202: Type.Object({ status: Type.Literal('reset_requested') }) }, 'rate_limited'),
      },
    },
    async (request, reply) => {
      await rateLimits.consume('mailedKeyPerIp', request.ip);
      await passwordReset.request(request.body.email, requestContext(request));
      return reply.code(202).send({ status: 'reset_requested' as const });
    },
  );

  app.get(
    '/password-resets/:key',
    {
      schema: {
        operationId: 'inspectPasswordReset',
        tags: ['Accounts'],
        summary: 'Look at a password reset key; never spends it',
        params: KeyParams,
        response: answers({ 200: Type.Object({ expires_at: Instant }) }, ...KEY_REFUSALS),
      },
    },
    async (request, reply) => {
      await rateLimits.consume('mailedKeyPerIp', request.ip);
      const state = await passwordReset.inspect(request.params.key);
      if (state.status !== 'pending') throw dead(state);
      return reply.header('cache-control', 'no-store').send({ expires_at: state.expiresAt.toISOString() });
    },
  );

  app.post(
    '/password-resets/:key',
    {
      schema: {
        operationId: 'resetPassword',
        tags: ['Accounts'],
        summary: 'Set the new password: exactly one call with a key does; every session ends, and a notice is mailed',
        params: KeyParams,
        body: Type.Object({ new_password: NewPassword }, { additionalProperties: false }),
        response: answers({ 204: NoContent }, 'password_too_weak', ...KEY_REFUSALS),
      },
    },
    async (request, reply) => {
      await rateLimits.consume('mailedKeyPerIp', request.ip);
      const { key } = request.params;
      const outcome = await passwordReset.reset(key, request.body.new_password, requestContext(request));
      if (outcome.status !== 'reset') throw dead(outcome);
      return reply.code(204).send();
    },
  );
};
