/** The caller's own account. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { Account } from '../domain/account.ts';
import { Problem } from '../problems.ts';
import type { RateLimits } from '../rate-limits.ts';
import type { UserProfile, UserStore } from '../store/users.ts';
import { requestContext } from './request-context.ts';
import {
  answers,
  DisplayName,
  Email,
  Instant,
  Locale,
  NewPassword,
  NoContent,
  Nullable,
  Password,
  UNAUTHENTICATED,
  UserStatus,
} from './schemas.ts';

const Me = Type.Object({
  id: Type.String(),
  email: Type.String(),
  status: UserStatus,
  display_name: Nullable(Type.String()),
  locale: Type.String(),
  created_at: Instant,
});

const body = (user: UserProfile) => ({
  id: user.id,
  email: user.email,
  status: user.status,
  display_name: user.displayName,
  locale: user.locale,
  created_at: user.createdAt.toISOString(),
});

/** What a call that asks for the password can refuse with: its tries are counted, by account and by address. */
const PASSWORD_ASKED = ['invalid_credentials', 'rate_limited', ...UNAUTHENTICATED] as const;

export interface MeRoutesOptions {
  users: UserStore;
  account: Account;
  rateLimits: RateLimits;
}

export const meRoutes: FastifyPluginAsyncTypebox<MeRoutesOptions> = async (app, { users, account, rateLimits }) => {
  const security = [{ bearer: [] }];

  // The caller is checked before the input: without a token there is no answer about it.
  app.addHook('onRequest', async (request) => {
    await request.authenticate();
  });

  app.get(
    '/me',
    {
      schema: {
        operationId: 'me',
        tags: ['Accounts'],
        summary: 'Who the caller is',
        security,
        response: answers({ 200: Me }, ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      const { sub } = await request.authenticate();
      const user = await users.profile(sub);
      // The account is gone while its token lives: the token stands for nobody.
      if (!user) throw new Problem('invalid_token');
      return reply.header('cache-control', 'no-store').send(body(user));
    },
  );

  app.patch(
    '/me',
    {
      schema: {
        operationId: 'updateMe',
        tags: ['Accounts'],
        summary: 'Change name or language; what is not given stays',
        security,
        body: Type.Object(
          {
            display_name: Type.Optional(Nullable(DisplayName, { description: 'null clears it' })),
            locale: Type.Optional(Locale),
          },
          { additionalProperties: false },
        ),
        response: answers({ 200: Me }, ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      const { sub } = await request.authenticate();
      const { display_name: displayName, locale } = request.body;
      const change = { ...(displayName !== undefined && { displayName }), ...(locale !== undefined && { locale }) };
      const user = await account.updateProfile(sub, change, requestContext(request));
      return reply.header('cache-control', 'no-store').send(body(user));
    },
  );

  app.delete(
    '/me',
    {
      schema: {
        operationId: 'deleteMe',
        tags: ['Accounts'],
        summary: 'Delete the account: every token is refused, and what is personal is gone',
        security,
        body: Type.Object({ current_password: Password }, { additionalProperties: false }),
        response: answers({ 204: NoContent }, ...PASSWORD_ASKED),
      },
    },
    async (request, reply) => {
      const { sub } = await request.authenticate();
      await rateLimits.consume('loginPerIp', request.ip);
      await account.delete(sub, request.body.current_password, requestContext(request));
      return reply.code(204).send();
    },
  );

  app.put(
    '/me/password',
    {
      schema: {
        operationId: 'changePassword',
        tags: ['Accounts'],
        summary: 'Change the password; every other session ends, and a notice is mailed',
        security,
        body: Type.Object({ current_password: Password, new_password: NewPassword }, { additionalProperties: false }),
        response: answers({ 204: NoContent }, 'password_too_weak', ...PASSWORD_ASKED),
      },
    },
    async (request, reply) => {
      const { sub: userId, sid: sessionId } = await request.authenticate();
      const { current_password: current, new_password: wanted } = request.body;
      await rateLimits.consume('loginPerIp', request.ip);
      await account.changePassword({ userId, sessionId }, { current, wanted }, requestContext(request));
      return reply.code(204).send();
    },
  );

  app.put(
    '/me/email',
    {
      schema: {
        operationId: 'requestEmailChange',
        tags: ['Accounts'],
        summary: 'Mail a link to another address that makes it the one of the account',
        description:
          'The present address gets a notice. The same answer whether the other address has an account: only its mailbox learns.',
        security,
        body: Type.Object({ current_password: Password, new_email: Email }, { additionalProperties: false }),
        response: answers({ 202: Type.Object({ status: Type.Literal('confirmation_required') }) }, ...PASSWORD_ASKED),
      },
    },
    async (request, reply) => {
      const { sub } = await request.authenticate();
      const { current_password: current, new_email: newEmail } = request.body;
      await rateLimits.consume('loginPerIp', request.ip);
      await account.requestEmailChange(sub, current, newEmail, requestContext(request));
      return reply.code(202).send({ status: 'confirmation_required' as const });
    },
  );
};
