/** The caller's own account. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { Problem } from '../problems.ts';
import type { UserStore } from '../store/users.ts';
import { answers, Instant, UNAUTHENTICATED, UserStatus } from './schemas.ts';

const Me = Type.Object({
  id: Type.String(),
  email: Type.String(),
  status: UserStatus,
  display_name: Type.Union([Type.String(), Type.Null()]),
  locale: Type.String(),
  created_at: Instant,
});

export const meRoutes: FastifyPluginAsyncTypebox<{ users: UserStore }> = async (app, { users }) => {
  app.get(
    '/me',
    {
      schema: {
        operationId: 'me',
        tags: ['Accounts'],
        summary: 'Who the caller is',
        security: [{ bearer: [] }],
        response: answers({ 200: Me }, ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      const { sub } = await request.authenticate();
      const user = await users.profile(sub);
      // The account is gone while its token lives: the token stands for nobody.
      if (!user) throw new Problem('invalid_token');
      return reply.header('cache-control', 'no-store').send({
        id: user.id,
        email: user.email,
        status: user.status,
        display_name: user.displayName,
        locale: user.locale,
        created_at: user.createdAt.toISOString(),
      });
    },
  );
};
