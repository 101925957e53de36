/** For operators: mails that could not be delivered. Registered inside the other admin routes, whose guard it stands behind. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { UUID_PATTERN } from '@latchkey/shared/uuid';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { FailedMails } from '../domain/failed-mails.ts';
import type { Act } from '../domain/operators.ts';
import type { FailedMail } from '../store/mail-queue.ts';
import { Limit, limitOf } from './admin-schemas.ts';
import { answers, Instant, NoBody, NoContent, Nullable, UNAUTHENTICATED } from './schemas.ts';

export interface AdminMailRoutesOptions {
  failedMails: FailedMails;
  operator: (request: FastifyRequest) => Promise<Act>;
}

const MailParams = Type.Object({
  id: Type.String({
    pattern: UUID_PATTERN,
    description: 'the id of a mail: a UUID in lower case',
  }),
});

const Mail = Type.Object({
  id: Type.String({ description: 'also the left part of its Message-ID' }),
  name: Type.String({ description: 'which mail it is' }),
  to: Nullable(Type.String()),
  user_id: Nullable(Type.String()),
  request_id: Nullable(Type.String({ description: 'of the request that caused it' })),
  created_at: Instant,
  failed_at: Instant,
  attempts: Type.Integer(),
  reason: Type.String({ description: 'what the last attempt ended with' }),
});

const shown = (mail: FailedMail) => ({
  id: mail.id,
  name: mail.name,
  to: mail.to,
  user_id: mail.userId,
  request_id: mail.requestId,
  created_at: mail.createdAt.toISOString(),
  failed_at: mail.failedAt.toISOString(),
  attempts: mail.attempts,
  reason: mail.reason,
});

export const adminMailRoutes: FastifyPluginAsyncTypebox<AdminMailRoutesOptions> = async (
  app,
  { failedMails, operator },
) => {
  const common = { tags: ['Operators'], security: [{ bearer: [] }] };

  app.get(
    '/failed-mails',
    {
      schema: {
        ...common,
        operationId: 'adminListFailedMails',
        summary: 'Mails that were given up, the last to fail first',
        querystring: Type.Object(
          {
            cursor: Type.Optional(Type.String({ pattern: '^[0-9]{1,9}$', description: 'a cursor of this list' })),
            limit: Limit,
          },
          { additionalProperties: false },
        ),
        response: answers(
          { 200: Type.Object({ mails: Type.Array(Mail), next_cursor: Nullable(Type.String()) }) },
          ...UNAUTHENTICATED,
        ),
      },
    },
    async ({ query }) => {
      const skip = Number(query.cursor ?? 0);
      const limit = limitOf(query);
      const found = await failedMails.list({ skip, limit: limit + 1 });
      return {
        mails: found.slice(0, limit).map(shown),
        next_cursor: found.length > limit ? String(skip + limit) : null,
      };
    },
  );

  app.get(
    '/failed-mails/:id',
    {
      schema: {
        ...common,
        operationId: 'adminGetFailedMail',
        summary: 'One of them',
        params: MailParams,
        response: answers({ 200: Mail }, 'mail_unknown', ...UNAUTHENTICATED),
      },
    },
    async ({ params }) => shown(await failedMails.find(params.id)),
  );

  app.post(
    '/failed-mails/:id/retry',
    {
      schema: {
        ...common,
        operationId: 'adminRetryMail',
        summary: 'Try it again',
        description: 'A mail that is still owed and is lost from the queue is published again. May be repeated.',
        params: MailParams,
        body: NoBody,
        response: answers({ 204: NoContent }, 'mail_unknown', ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      await failedMails.retry(await operator(request), request.params.id);
      return reply.code(204).send();
    },
  );

  app.delete(
    '/failed-mails/:id',
    {
      schema: {
        ...common,
        operationId: 'adminDiscardMail',
        summary: 'Give it up for good: it is not owed any more',
        params: MailParams,
        body: NoBody,
        response: answers({ 204: NoContent }, 'mail_unknown', ...UNAUTHENTICATED),
      },
    },
    async (request, reply) => {
      await failedMails.discard(await operator(request), request.params.id);
      return reply.code(204).send();
    },
  );
};
