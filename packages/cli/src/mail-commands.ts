/** The mails that could not be delivered. */
import { type Api, connectApi } from './api.ts';
import type { Command } from './command.ts';
import { apiSettings } from './environment.ts';
import { Failure } from './failure.ts';
import { fields, table } from './table.ts';

const COLUMNS = ['id', 'name', 'to', 'failed_at', 'attempts', 'reason'];

/** As an argument: every failed mail. */
const ALL = 'all';

interface Mail extends Record<string, unknown> {
  id: string;
}

/** Every failed mail, the last to fail first. A mail that fails while the pages are read is met twice or on the next run. */
async function failedMails(admin: Api): Promise<Mail[]> {
  const found = new Map<string, Mail>();
  for (let cursor: string | null = '0'; cursor !== null; ) {
    const page = (await admin.call('GET', `/failed-mails?limit=200&cursor=${cursor}`)) as {
      mails: Mail[];
      next_cursor: string | null;
    };
    for (const mail of page.mails) found.set(mail.id, mail);
    cursor = page.next_cursor;
  }
  return [...found.values()];
}

const path = (id: string) => `/failed-mails/${encodeURIComponent(id)}`;

/** Retries each; one that somebody else has dealt with meanwhile is none of the rest's business. */
async function retryEach(admin: Api, ids: readonly string[]): Promise<string[]> {
  const retried: string[] = [];
  for (const id of ids) {
    try {
      await admin.call('POST', `${path(id)}/retry`);
      retried.push(id);
    } catch (error) {
      if (!(error instanceof Failure && error.message.startsWith('mail_unknown'))) throw error;
    }
  }
  return retried;
}

export const mailCommands: Readonly<Record<string, Command>> = {
  'mail failed': {
    argument: 'id',
    optional: true,
    summary: 'mails that could not be delivered, the last to fail first; or all about one',
    async run({ argument: id, env }) {
      const admin = connectApi(apiSettings(env));
      if (id !== '') {
        const mail = await admin.call('GET', path(id));
        return { data: mail, text: fields(mail) };
      }
      const mails = await failedMails(admin);
      return { data: mails, text: mails.length === 0 ? 'no failed mails' : table(COLUMNS, mails) };
    },
  },
  'mail retry': {
    argument: 'id or all',
    summary: 'try it again, with all its attempts before it',
    details: 'A link in it starts its life anew when it is sent. A mail the queue has lost is put into it again.',
    async run({ argument: id, env }) {
      const admin = connectApi(apiSettings(env));
      if (id !== ALL) {
        await admin.call('POST', `${path(id)}/retry`);
        return { data: { id, retried: true }, text: `Mail ${id} is tried again.` };
      }
      const mails = await failedMails(admin);
      const retried = await retryEach(
        admin,
        mails.map((mail) => mail.id),
      );
      return { data: { retried }, text: `${retried.length} of ${mails.length} failed mails are tried again.` };
    },
  },
  'mail discard': {
    argument: 'id',
    summary: 'give up a mail for good',
    irrevocable: (id) => `Mail ${id} will never be delivered.`,
    async run({ argument: id, env }) {
      await connectApi(apiSettings(env)).call('DELETE', path(id));
      return { data: { id, discarded: true }, text: `Mail ${id} is discarded.` };
    },
  },
};
