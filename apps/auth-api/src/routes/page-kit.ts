/** What the routes of all pages share: their descriptions, and how an answer becomes a page. */
import formbody from '@fastify/formbody';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { chooseLanguage } from '../pages/language.ts';
import type { Action, Page, Pages } from '../pages/render.ts';
import { texts } from '../pages/strings.ts';
import { oneOf } from './schemas.ts';

/** The language of the page whose button was pressed. */
export const FormLanguage = Type.Optional(oneOf(Object.keys(texts)));
const WithLanguage = Type.Object({ lang: FormLanguage });

/** The `response` of a page's route: HTML under every status it can have, what went wrong included. */
export function pageAnswers(own: Record<number, string>): Record<number, unknown> {
  const everywhere = {
    400: 'What the browser sent is not understood',
    413: 'The body is too large',
    415: 'The body is not a form',
    429: 'Too many requests; says how long to wait',
    500: 'A fault here',
    503: 'A part this service needs is away; offers to try again',
  };
  return Object.fromEntries(
    Object.entries({ ...everywhere, ...own }).map(([status, description]) => [
      status,
      { description, content: { 'text/html': { schema: Type.String() } } },
    ]),
  );
}

/** Turns a page into HTML and sets the headers that go with it. `known` is the language of the account, if it is known. */
export type HtmlOf = (content: Page, request: FastifyRequest, reply: FastifyReply, known?: string) => string;

export interface PageKind {
  /** The page for a link that is not known. */
  unknown: Page;
  /** What the button of a page tries again when this body was refused; without one it opens the page anew. */
  retry: (body: unknown) => Action | undefined;
}

/** Makes the routes of an encapsulated plugin pages: forms are read, refusals are HTML, and so is what is not found. */
export async function servePages(page: FastifyInstance, pages: Pages, { unknown, retry }: PageKind): Promise<HtmlOf> {
  // A page is posted by a form; whatever else comes is answered 415.
  page.removeAllContentTypeParsers();
  await page.register(formbody);

  const htmlOf: HtmlOf = (content, request, reply, known) => {
    const asked = Value.Check(WithLanguage, request.body) ? request.body.lang : undefined;
    const language = chooseLanguage(asked ?? known, request.headers['accept-language']);
    reply.header('content-language', language).type('text/html; charset=utf-8');
    return pages.render(content, language);
  };

  /** The page for a request that was refused: what its button does is what was refused. */
  function failurePage({ method, body }: FastifyRequest, reply: FastifyReply): Page {
    const action = method === 'POST' ? retry(body) : undefined;
    const again = action === undefined ? {} : { retry: action };
    if (reply.statusCode === 429) return { name: 'limited', wait: Number(reply.getHeader('retry-after')), ...again };
    if (reply.statusCode === 503) return { name: 'unavailable', ...again };
    return reply.statusCode < 500 ? { name: 'invalid' } : { name: 'failed', ...again };
  }

  // What goes wrong is classified, counted and logged where it is for every route (problem-answers.ts); people get it as a page.
  page.addHook('onSend', async (request, reply, payload) => {
    if (!String(reply.getHeader('content-type')).startsWith('application/problem+json')) return payload;
    return htmlOf(failurePage(request, reply), request, reply);
  });

  // A link that lost a piece or gained one on its way; or a method that no page of ours uses.
  page.setNotFoundHandler(async (request, reply) => {
    const allowed = page.allowedAt(request.url);
    if (allowed.length > 0) reply.code(405).header('allow', allowed.join(', '));
    else reply.code(404);
    return htmlOf(unknown, request, reply);
  });
  return htmlOf;
}
