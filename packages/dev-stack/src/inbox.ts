/** The web inbox and its JSON API. Server-rendered, no script, nothing from elsewhere. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { listPage, mailPage, notFoundPage, withLinksInNewTabs } from './inbox-pages.ts';
import type { Mail, MailStore } from './mail-store.ts';

type Answer = {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
};

/** Pages of ours run no script and load nothing; the mail's frame is the only thing they embed. */
const PAGE_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; form-action 'self'; base-uri 'none'";
/** A mail may style itself and show pictures it carries; it runs no script, sends no form, loads nothing. */
const MAIL_POLICY =
  "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'";

const routes: readonly {
  readonly method: string;
  readonly path: RegExp;
  readonly answer: (store: MailStore, id: string, query: URLSearchParams) => Answer;
}[] = [
  { method: 'GET', path: /^\/$/, answer: (store) => page(200, listPage(store.list().toReversed())) },
  {
    method: 'GET',
    path: /^\/mails\/(\d+)$/,
    answer: (store, id) => ofMail(store, id, (mail) => page(200, mailPage(mail))),
  },
  {
    method: 'GET',
    path: /^\/mails\/(\d+)\/html$/,
    answer: (store, id) => ofMail(store, id, (mail) => html(200, withLinksInNewTabs(mail.html), MAIL_POLICY)),
  },
  {
    method: 'GET',
    path: /^\/mails\/(\d+)\/source$/,
    answer: (store, id) => ofMail(store, id, (mail) => ({ status: 200, type: 'text/plain', body: mail.raw })),
  },
  {
    method: 'POST',
    path: /^\/clear$/,
    answer(store) {
      store.clear();
      return { status: 303, type: 'text/plain', body: '', headers: { location: '/' } };
    },
  },
  {
    method: 'GET',
    path: /^\/api\/mails$/,
    answer: (store, _id, query) => json(200, { mails: store.list(query.get('to') ?? undefined).map(asJson) }),
  },
  {
    method: 'DELETE',
    path: /^\/api\/mails$/,
    answer(store) {
      store.clear();
      return { status: 204, type: 'application/json', body: '' };
    },
  },
  {
    method: 'GET',
    path: /^\/api\/mails\/(\d+)$/,
    answer: (store, id) => ofMail(store, id, (mail) => json(200, asJson(mail))),
  },
];

/** The inbox as an HTTP server that does not listen yet. */
export function createInbox(store: MailStore): Server {
  return createServer((request, response) => send(request, response, answerTo(store, request)));
}

function answerTo(store: MailStore, request: IncomingMessage): Answer {
  const url = `http://inbox${request.url ?? '/'}`;
  const { pathname, searchParams } = new URL(URL.canParse(url) ? url : 'http://inbox/');
  // Another site's page may point a form at us; browsers say so.
  const site = request.headers['sec-fetch-site'];
  if (request.method !== 'GET' && request.method !== 'HEAD' && site !== undefined && site !== 'same-origin') {
    return json(403, { error: 'not from another site' });
  }
  const method = request.method === 'HEAD' ? 'GET' : request.method;
  const known = routes.filter(({ path }) => path.test(pathname));
  const route = known.find((candidate) => candidate.method === method);
  if (route === undefined) {
    return known.length === 0
      ? notFound(pathname)
      : {
          ...json(405, { error: 'method not allowed' }),
          headers: { allow: known.map((one) => one.method).join(', ') },
        };
  }
  return route.answer(store, route.path.exec(pathname)?.[1] ?? '', searchParams);
}

function send(request: IncomingMessage, response: ServerResponse, { status, type, body, headers }: Answer): void {
  response.writeHead(status, {
    'content-type': `${type}; charset=utf-8`,
    'cache-control': 'no-store',
    'content-security-policy': PAGE_POLICY,
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    ...headers,
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

function ofMail(store: MailStore, id: string, answer: (mail: Mail) => Answer): Answer {
  const mail = store.get(id);
  return mail === undefined ? notFound(id) : answer(mail);
}

function notFound(what: string): Answer {
  return what.startsWith('/api/') ? json(404, { error: 'not found' }) : page(404, notFoundPage());
}

function page(status: number, body: string): Answer {
  return html(status, body, PAGE_POLICY);
}

function html(status: number, body: string, policy: string): Answer {
  return { status, type: 'text/html', body, headers: { 'content-security-policy': policy } };
}

function json(status: number, body: object): Answer {
  return { status, type: 'application/json', body: `${JSON.stringify(body)}\n` };
}

function asJson(mail: Mail): object {
  return { ...mail, headers: Object.fromEntries(mail.headers), receivedAt: mail.receivedAt.toISOString() };
}
