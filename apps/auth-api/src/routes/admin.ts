/** For operators: a client's token with scope `admin`. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { PRINTABLE_PATTERN } from '@latchkey/shared/account-fields';
import { isUuid } from '@latchkey/shared/uuid';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { FailedMails } from '../domain/failed-mails.ts';
import { isUntilLifted } from '../domain/instants.ts';
import type { Act, Operators } from '../domain/operators.ts';
import { CLIENT_SCOPES } from '../domain/scopes.ts';
import { invalidInput } from '../problems.ts';
import type { Cursor, DirectoryEntry } from '../store/directory.ts';
import { adminKeyRoutes } from './admin-keys.ts';
import { adminMailRoutes } from './admin-mails.ts';
import { adminRecordRoutes } from './admin-records.ts';
import { instant, Limit, limitOf, UserId } from './admin-schemas.ts';
import { requestContext } from './request-context.ts';
import {
  answers,
  Email,
  Instant,
  NoBody,
  NoContent,
  Nullable,
  Omittable,
  UNAUTHENTICATED,
  UserStatus,
} from './schemas.ts';
import { SessionFields, sessionFields } from './session-fields.ts';

const UserParams = Type.Object({ id: UserId });

const User = Type.Object({
  id: Type.String(),
  email: Type.String(),
  status: UserStatus,
  display_name: Nullable(Type.String()),
  locale: Type.String(),
  created_at: Instant,
  activated_at: Nullable(Instant),
  tokens_valid_from: Nullable(Instant),
  suspended_until: Nullable(Instant),
  suspension_reason: Nullable(Type.String()),
});

const shown = (user: DirectoryEntry) => ({
  id: user.id,
  email: user.email,
  status: user.status,
  display_name: user.displayName,
  locale: user.locale,
  created_at: user.createdAt.toISOString(),
  activated_at: instant(user.activatedAt),
  tokens_valid_from: instant(user.tokensValidFrom),
  // A suspension until it is lifted shows in the status alone.
  suspended_until: user.suspendedUntil && !isUntilLifted(user.suspendedUntil) ? instant(user.suspendedUntil) : null,
  suspension_reason: user.suspensionReason,
});

/** RFC 3339 allows a leap second, which a `Date` does not know. */
function dateOf(pointer: string, text: string): Date {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) throw invalidInput(pointer, 'is not an instant');
  return date;
}

const cursorText = ({ createdAt, id }: Cursor) => Buffer.from(`${createdAt}.${id}`).toString('base64url');
function cursorOf(text: string): Cursor {
  const [createdAt = '', id = '', ...more] = Buffer.from(text, 'base64url').toString().split('.');
  if (!/^\d{1,17}$/.test(createdAt) || !isUuid(id) || more.length > 0)
    throw invalidInput('/query/cursor', 'is not a cursor of this list');
  return { createdAt, id };
}

export interface AdminRoutesOptions {
  operators: Operators;
  failedMails: FailedMails;
}

export const adminRoutes: FastifyPluginAsyncTypebox<AdminRoutesOptions> = async (app, { operators, failedMails }) => {
  const common = { tags: ['Operators'], security: [{ bearer: [] }] };

  /** Who acts. @throws {Problem} for anyone who is no operator. */
  async function operator(request: FastifyRequest): Promise<Act> {
    const { sub } = await request.authenticateClient(CLIENT_SCOPES.admin);
    return { clientId: sub, context: requestContext(request) };
  }

  // Before the input: no answer about it tells others what only operators may know, and only an operator's body is waited for.
  app.addHook('onRequest', async (request) => {
    await request.authenticateClient(CLIENT_SCOPES.admin);
  });
  // A call whose fields may all be left out may leave out the body too.
  app.addHook('preValidation', async (request) => {
    request.body ??= {};
  });
  app.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store');
  });

  app.get(
    '/users',
    {
      schema: {
        ...common,
        operationId: 'adminListUsers',
        summary: 'Users, the newest first',
        querystring: Type.Object(
          {
            email: Type.Optional(Email),
            status: Type.Optional(UserStatus),
            cursor: Type.Optional(Type.String({ maxLength: 200 })),
            limit: Limit,
          },
          { additionalProperties: false },
        ),
        response: answers(
          { 200: Type.Object({ users: Type.Array(User), next_cursor: Nullable(Type.String()) }) },
          ...UNAUTHENTICATED,
        ),
      },
    },
    async ({ query }) => {
      const cursor = query.cursor === undefined ? undefined : cursorOf(query.cursor);
      const { email, status } = query;
      const { users, next } = await operators.listUsers({ email, status, cursor, limit: limitOf(query) });
      return { users: users.map(shown), next_cursor: next ? cursorText(next) : null };
    },
  );

  app.get(
    '/users/:id',
    {
      schema: {
        ...common,
        operationId: 'adminGetUser',
        summary: 'One user',
        params: UserParams,
        response: answers({ 200: User }, 'user_unknown', ...UNAUTHENTICATED),
      },
    },
    async ({ params }) => shown(await operators.user(params.id)),
  );

  app.delete(
    '/users/:id',
    {
      schema: {
        ...common,
        operationId: 'adminDeleteUser',
        summary: 'Delete a user: tokens dead, personal data gone',
        params: UserParams,
        body: NoBody,
        response: answers({ 204: NoContent }, 'user_unknown', ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      await operators.deleteUser(await operator(request), request.params.id);
      return reply.code(204).send();
    },
  );

  app.post(
    '/users/:id/revocations',
    {
      schema: {
        ...common,
        operationId: 'adminRevokeTokens',
        summary: 'Cut off: what the user was issued until then is refused',
        description: 'Now, if no instant is given. An instant to come closes login until then.',
        params: UserParams,
        body: Omittable(Type.Object({ issued_before: Type.Optional(Instant) }, { additionalProperties: false })),
        response: answers({ 200: Type.Object({ tokens_valid_from: Instant }) }, 'user_unknown', ...UNAUTHENTICATED),
      },
    },
    async (request) => {
      const { issued_before: text } = request.body ?? {};
      const issuedBefore = text === undefined ? undefined : dateOf('/issued_before', text);
      const validFrom = await operators.revokeTokens(await operator(request), request.params.id, issuedBefore);
      return { tokens_valid_from: validFrom.toISOString() };
    },
  );

  app.put(
    '/users/:id/suspension',
    {
      schema: {
        ...common,
        operationId: 'adminSuspend',
        summary: 'Suspend until an instant, or until lifted',
        description: 'What was issued before its end stays refused after it.',
        params: UserParams,
        body: Omittable(
          Type.Object(
            {
              until: Type.Optional(Nullable(Instant)),
              reason: Type.Optional(
                Nullable(
                  Type.String({
                    minLength: 1,
                    maxLength: 500,
                    pattern: PRINTABLE_PATTERN,
                    description: 'text without control characters',
                  }),
                ),
              ),
            },
            { additionalProperties: false },
          ),
        ),
        response: answers({ 200: User }, 'user_unknown', ...UNAUTHENTICATED),
      },
    },
    async (request) => {
      const { until, reason = null } = request.body ?? {};
      const end = typeof until === 'string' ? dateOf('/until', until) : undefined;
      const suspension = { until: end, reason };
      return shown(await operators.suspend(await operator(request), request.params.id, suspension, Date.now()));
    },
  );

  app.delete(
    '/users/:id/suspension',
    {
      schema: {
        ...common,
        operationId: 'adminLiftSuspension',
        summary: 'End a suspension',
        params: UserParams,
        body: NoBody,
        response: answers({ 204: NoContent }, 'user_unknown', ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      await operators.liftSuspension(await operator(request), request.params.id);
      return reply.code(204).send();
    },
  );

  app.get(
    '/users/:id/sessions',
    {
      schema: {
        ...common,
        operationId: 'adminListSessions',
        summary: "A user's sessions",
        params: UserParams,
        response: answers(
          { 200: Type.Object({ sessions: Type.Array(Type.Object(SessionFields)) }) },
          'user_unknown',
          ...UNAUTHENTICATED,
        ),
      },
    },
    async ({ params }) => ({ sessions: (await operators.listSessions(params.id)).map(sessionFields) }),
  );

  app.delete(
    '/users/:id/sessions/:sid',
    {
      schema: {
        ...common,
        operationId: 'adminEndSession',
        summary: "End one of a user's sessions",
        params: Type.Object({ id: UserId, sid: Type.String({ maxLength: 64 }) }),
        body: NoBody,
        response: answers({ 204: NoContent }, 'user_unknown', 'session_unknown', ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      await operators.endSession(await operator(request), request.params.id, request.params.sid);
      return reply.code(204).send();
    },
  );

  app.post(
    '/tokens/deny',
    {
      schema: {
        ...common,
        operationId: 'adminDenyToken',
        summary: 'Refuse one token, and what was refreshed from it',
        description: 'By itself or by its jti. expires_at is not needed: a jti says until when its token can live.',
        body: Type.Object(
          {
            token: Type.Optional(Type.String({ minLength: 1, maxLength: 4096 })),
            jti: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
            expires_at: Type.Optional(Instant),
          },
          { additionalProperties: false, description: 'an object with token or with jti' },
        ),
        response: answers({ 204: NoContent }, ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      const act = await operator(request);
      const { token, jti } = request.body;
      if ((token === undefined) === (jti === undefined)) throw invalidInput('', 'must have either token or jti');
      if (token !== undefined) await operators.denyToken(act, token);
      else if (jti !== undefined) await operators.denyJti(act, jti);
      return reply.code(204).send();
    },
  );

  await app.register(adminRecordRoutes, { operators, operator });
  await app.register(adminKeyRoutes, { operators, operator });
  await app.register(adminMailRoutes, { failedMails, operator });
};
