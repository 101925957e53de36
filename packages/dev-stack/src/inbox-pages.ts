/** What the inbox looks like. */
import type { Mail } from './mail-store.ts';

const STYLE = `
:root { color-scheme: light dark; --line: light-dark(#d8dce2, #353b45); --dim: light-dark(#57606a, #9aa4b2); --link: light-dark(#0b57d0, #8ab4f8); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; background: light-dark(#fff, #14171c); color: light-dark(#1b1f24, #e8ebf0); overflow-wrap: anywhere; }
header { display: flex; align-items: baseline; justify-content: space-between; gap: 1rem; border-bottom: 1px solid var(--line); }
h1 { font-size: 1.25rem; margin: .5rem 0; }
a { color: var(--link); }
ol { list-style: none; margin: 0; padding: 0; }
li a { display: grid; grid-template-columns: 1fr auto; gap: 0 1rem; padding: .75rem .25rem; border-bottom: 1px solid var(--line); color: inherit; text-decoration: none; }
li a:hover, li a:focus-visible { background: light-dark(#f3f5f8, #1d2128); }
li strong { grid-column: 1 / -1; }
.dim, dt { color: var(--dim); }
dl { display: grid; grid-template-columns: auto 1fr; gap: .1rem 1rem; }
dd { margin: 0; }
h2 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
iframe { width: 100%; height: 60vh; border: 1px solid var(--line); border-radius: .5rem; background: #fff; }
pre { white-space: pre-wrap; border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 0; }
button { font: inherit; padding: .25rem .75rem; }
`;

/** All mails, newest first. The page asks again by itself, so that a mail shows up while one waits for it. */
export function listPage(mails: readonly Mail[]): string {
  const rows = mails.map(
    (mail) =>
      `<li><a href="/mails/${mail.id}"><strong>${escaped(mail.subject || '(no subject)')}</strong>` +
      `<span>${escaped(mail.to.join(', '))}</span><time class="dim" datetime="${mail.receivedAt.toISOString()}">${shownTime(mail)}</time></a></li>`,
  );
  const list =
    rows.length === 0
      ? '<p class="dim">No mail yet. What the mailer sends shows up here.</p>'
      : `<ol>${rows.join('')}</ol>`;
  const clear = rows.length === 0 ? '' : '<form method="post" action="/clear"><button>Delete all</button></form>';
  return frame(
    `Inbox (${mails.length})`,
    `<header><h1>Inbox</h1>${clear}</header>${list}`,
    '<meta http-equiv="refresh" content="3">',
  );
}

/** One mail: as HTML in a frame that can run nothing, as text, and where its source is. */
export function mailPage(mail: Mail): string {
  const facts = [
    ['From', mail.headers.get('from') ?? mail.from],
    ['To', mail.to.join(', ')],
    ['Received', shownTime(mail)],
    ['Message-ID', mail.headers.get('message-id') ?? ''],
  ];
  const shownHtml =
    mail.html === ''
      ? ''
      : `<h2>HTML</h2><iframe title="The mail as HTML" sandbox="allow-popups allow-popups-to-escape-sandbox" src="/mails/${mail.id}/html"></iframe>`;
  const shownText = mail.text === '' ? '' : `<h2>Plain text</h2><pre>${linked(mail.text)}</pre>`;
  return frame(
    mail.subject || '(no subject)',
    `<header><h1>${escaped(mail.subject || '(no subject)')}</h1><nav><a href="/">Inbox</a> · <a href="/mails/${mail.id}/source">Source</a></nav></header>` +
      `<dl>${facts.map(([name = '', value = '']) => `<dt>${name}</dt><dd>${escaped(value)}</dd>`).join('')}</dl>${shownHtml}${shownText}`,
  );
}

export function notFoundPage(): string {
  return frame(
    'Not found',
    '<header><h1>Not found</h1><nav><a href="/">Inbox</a></nav></header><p>This mail is not here (any more).</p>',
  );
}

/** A link in a mail opens a tab of its own, since what it leads to may not be framed. */
export function withLinksInNewTabs(html: string): string {
  const base = '<base target="_blank">';
  return /<head[^>]*>/i.test(html) ? html.replace(/<head[^>]*>/i, (head) => head + base) : base + html;
}

function frame(title: string, body: string, head = ''): string {
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">' +
    `${head}<title>${escaped(title)} · Latchkey mail</title><style>${STYLE}</style></head><body>${body}</body></html>`
  );
}

function shownTime(mail: Mail): string {
  return mail.receivedAt.toISOString().replace('T', ' ').slice(0, 19);
}

function linked(text: string): string {
  return text
    .split(/(https?:\/\/[^\s<>"]+)/)
    .map((part, index) =>
      index % 2 === 1
        ? `<a href="${escaped(part)}" target="_blank" rel="noreferrer">${escaped(part)}</a>`
        : escaped(part),
    )
    .join('');
}

function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}
