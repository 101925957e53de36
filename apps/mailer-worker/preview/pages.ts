/** Every mail in every language, as a browser shows it: what `pnpm --filter mailer-worker preview` serves. */
import { Eta } from 'eta';
import Fastify from 'fastify';
import { LANGUAGES, type MailContent, type Mails } from '../src/mails.ts';

/** In the place of the key: links of a preview lead nowhere. */
const NO_KEY = 'PREVIEW'.padEnd(32, '0');

const SCHEMES = ['light', 'dark'] as const;

/** A mail's HTML as a recipient with this scheme sees it, whatever the browser of the developer prefers. */
function inScheme(html: string, scheme: (typeof SCHEMES)[number]): string {
  const applies = scheme === 'dark' ? 'all' : 'not all';
  return html.replaceAll('(prefers-color-scheme: dark)', applies).replace('light dark; }', `${scheme}; }`);
}

/** A server that is not listening yet. */
export function createPreview(mails: Mails) {
  const app = Fastify();
  const page = new Eta({ views: import.meta.dirname, autoEscape: true });

  const find = (name: string, language: string): MailContent | undefined => {
    const mail = Object.entries(mails).find(([known]) => known === name)?.[1];
    return LANGUAGES.includes(language) ? mail?.(language, NO_KEY) : undefined;
  };

  app.get('/', async (_request, reply) => {
    const entries = Object.keys(mails).flatMap((name) =>
      LANGUAGES.map((language) => ({ name, language, subject: find(name, language)?.subject })),
    );
    return reply.type('text/html; charset=utf-8').send(page.render('index', { entries, schemes: SCHEMES }));
  });

  app.get<{ Params: { name: string; language: string; part: string } }>(
    '/:name/:language/:part',
    async ({ params }, reply) => {
      const mail = find(params.name, params.language);
      const scheme = SCHEMES.find((known) => known === params.part);
      if (mail && scheme) return reply.type('text/html; charset=utf-8').send(inScheme(mail.html, scheme));
      if (mail && params.part === 'text') return reply.type('text/plain; charset=utf-8').send(mail.text);
      return reply.callNotFound();
    },
  );

  return app;
}
