/** Registration and activation. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { Activation, DeadActivationKey } from '../domain/activation.ts';
import type { RegistrationService } from '../domain/registration.ts';
import { Problem } from '../problems.ts';
import type { RateLimits } from '../rate-limits.ts';
import { preferredLocale, requestContext } from './request-context.ts';
import { answers, DisplayName, Email, Instant, KeyParams, Locale, NewPassword, NoBody } from './schemas.ts';

const ActivationRequired = Type.Object({ status: Type.Literal('activation_required') });

/** A replaced key is answered like one that never was: both do nothing, and never will again. */
const DEAD_KEY = {
  unknown: 'activation_key_unknown',
  superseded: 'activation_key_unknown',
  expired: 'activation_key_expired',
  used: 'activation_key_used',
} as const satisfies Record<DeadActivationKey['status'], string>;

const dead = ({ status }: DeadActivationKey) => new Problem(DEAD_KEY[status]);

export interface AccountRoutesOptions {
  registration: RegistrationService;
  activation: Activation;
  rateLimits: RateLimits;
}

export const accountRoutes: FastifyPluginAsyncTypebox<AccountRoutesOptions> = async (app, options) => {
  const { registration, activation, rateLimits } = options;

  app.post(
    '/users',
    {
      schema: {
        operationId: 'register',
        tags: ['Accounts'],
        summary: 'Register; a link is mailed that activates',
        description:
          'The same answer whether the address is new, waiting for activation or taken: only its mailbox learns which.',
        body: Type.Object(
          {
            email: Email,
            password: NewPassword,
            display_name: Type.Optional(DisplayName),
            locale: Type.Optional(Locale),
          },
          { additionalProperties: false },
        ),
        response: answers({ 202: ActivationRequired }, 'password_too_weak', 'rate_limited'),
      },
    },
    async (request, reply) => {
      const { email, password, display_name: displayName = null, locale = preferredLocale(request) } = request.body;
      await rateLimits.consume('registrationPerIp', request.ip);
      await registration.register({ email, password, displayName, locale }, requestContext(request));
      return reply.code(202).send({ status: 'activation_required' });
    },
  );

  app.post(
    '/activations',
    {
      schema: {
        operationId: 'requestActivation',
        tags: ['Accounts'],
        summary: 'Mail a new activation link',
        description:
          'If one registration of the address waits for activation, it is mailed a new link and its older links are dead. If several do, a mail says to register again, and their links stay as they are. Else nothing is mailed. The answer is the same.',
        body: Type.Object({ email: Email }, { additionalProperties: false }),
        response: answers({ 202: ActivationRequired }, 'rate_limited'),
      },
    },
    async (request, reply) => {
      await rateLimits.consume('mailedKeyPerIp', request.ip);
      await registration.resend(request.body.email, requestContext(request));
      return reply.code(202).send({ status: 'activation_required' });
    },
  );

  app.get(
    '/activations/:key',
    {
      schema: {
        operationId: 'inspectActivation',
        tags: ['Accounts'],
        summary: 'Look at an activation key; never spends it',
        params: KeyParams,
        response: answers(
          { 200: Type.Object({ status: Type.Literal('pending'), expires_at: Instant }) },
          'activation_key_unknown',
          'activation_key_expired',
          'activation_key_used',
          'rate_limited',
        ),
      },
    },
    async (request, reply) => {
      await rateLimits.consume('mailedKeyPerIp', request.ip);
      const state = await activation.inspect(request.params.key);
      if (state.status !== 'pending') throw dead(state);
      return reply
        .header('cache-control', 'no-store')
        .send({ status: 'pending' as const, expires_at: state.expiresAt.toISOString() });
    },
  );

  app.post(
    '/activations/:key',
    {
      schema: {
        operationId: 'activate',
        tags: ['Accounts'],
        summary: 'Activate; exactly one call with a key succeeds. Grants no session',
        params: KeyParams,
        body: NoBody,
        response: answers(
          {
            200: Type.Object({
              user: Type.Object({ id: Type.String(), email: Type.String(), status: Type.Literal('active') }),
            }),
          },
          'activation_key_unknown',
          'activation_key_expired',
          'activation_key_used',
          'rate_limited',
        ),
      },
    },
    async (request) => {
      await rateLimits.consume('mailedKeyPerIp', request.ip);
      const outcome = await activation.activate(request.params.key, requestContext(request));
      if (outcome.status !== 'activated') throw dead(outcome);
      const { id, email } = outcome.user;
      return { user: { id, email, status: 'active' as const } };
    },
  );

  app.post(
    '/activations/:key/renewal',
    {
      schema: {
        operationId: 'renewActivation',
        tags: ['Accounts'],
        summary: 'Mail a fresh key in place of a live or expired one, to the address it was made for',
        params: KeyParams,
        body: NoBody,
        response: answers({ 202: ActivationRequired }, 'activation_key_unknown', 'activation_key_used', 'rate_limited'),
      },
    },
    async (request, reply) => {
      await rateLimits.consume('mailedKeyPerIp', request.ip);
      const outcome = await activation.renew(request.params.key, requestContext(request));
      if (outcome.status !== 'renewed') throw dead(outcome);
      return reply.code(202).send({ status: 'activation_required' });
    },
  );
};
