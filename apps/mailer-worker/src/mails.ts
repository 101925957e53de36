/** What a mail says: the templates in `templates/`, filled in the recipient's language. Nothing a stranger typed gets into a mail. */
import { join } from 'node:path';
import { Eta } from 'eta';
import { german } from './languages/de.ts';
import { english, type LinkTexts, type MailTexts, type NoticeTexts } from './languages/en.ts';
import { palettes, type Theme } from './theme.ts';

/** One mail, ready to send. `language` is the tag of the language it is written in. */
export interface MailContent {
  readonly language: string;
  readonly subject: string;
  readonly html: string;
  readonly text: string;
}

const languages: readonly MailTexts[] = [english, german];

/** The tag of every language there is, the one others fall back to first. */
export const LANGUAGES: readonly string[] = languages.map(({ tag }) => tag);

/** The templates stand beside `src/` and, for the bundle, beside `dist/`. */
const views = join(import.meta.dirname, '..', 'templates');

/** The language for a BCP 47 tag, by its primary subtag (`de-AT` is German); English for every other. */
function languageFor(locale: string): MailTexts {
  const [primary] = locale.toLowerCase().split(/[-_]/);
  return languages.find(({ tag }) => tag === primary) ?? english;
}

/** The tag of the language that is spoken to whoever has this locale. */
export const languageOf = (locale: string): string => languageFor(locale).tag;

/** A length of time in words, in the largest unit that says it exactly; an odd one rounds down, so that it never promises too much. */
function inWords(seconds: number, tag: string): string {
  const units = [
    ['day', 86_400],
    ['hour', 3600],
    ['minute', 60],
  ] as const;
  const rounded = seconds < 120 ? seconds : seconds - (seconds % 60);
  const [unit, size] = units.find(([, length]) => rounded % length === 0) ?? (['second', 1] as const);
  return new Intl.NumberFormat(tag, { style: 'unit', unit, unitDisplay: 'long' }).format(rounded / size);
}

/**
 * @param publicUrl `PUBLIC_URL`: base of the links.
 * @param keyTtl `ACTIVATION_KEY_TTL`, seconds.
 * @throws at once when a template is missing or broken, and not with the first mail.
 */
export function createMails(publicUrl: string, keyTtl: number, theme: Theme = {}) {
  const html = new Eta({ views, cache: true, autoEscape: true });
  const text = new Eta({ views, cache: true, autoEscape: false, autoTrim: false });
  const site = theme.name ?? new URL(publicUrl).host;
  const { logoUrl, supportAddress } = theme;
  const look = { site, logoUrl, ...palettes(theme) };

  function render(template: string, language: MailTexts, texts: { subject: string }, link?: string): MailContent {
    const support = supportAddress && { question: language.support, address: supportAddress };
    const data = { ...look, lang: language.tag, footer: language.footer(site), support, texts, link };
    return {
      language: language.tag,
      subject: texts.subject,
      html: html.render(`${template}.html.eta`, { ...data }),
      text: `${text.render(`${template}.text.eta`, { ...data }).trimEnd()}\n`,
    };
  }

  /** A mail that only says something. */
  const notice = (texts: (language: MailTexts) => NoticeTexts) => (locale: string) => {
    const language = languageFor(locale);
    return render('notice', language, texts(language));
  };

  /** A mail with a page to open: `{PUBLIC_URL}/{path}/{key}`. */
  const linked =
    (path: string, texts: (language: MailTexts, validFor: string) => LinkTexts) => (locale: string, key: string) => {
      const language = languageFor(locale);
      return render('link', language, texts(language, inWords(keyTtl, language.tag)), `${publicUrl}/${path}/${key}`);
    };

  const mails = {
    /** The link that activates. */
    activation: linked('activate', (language, validFor) => language.activation(site, validFor)),
    /** The address has an account already. */
    accountExists: notice((language) => language.account_exists(site)),
    /** Several registrations of the address wait: which one the recipient made, only the recipient knows. */
    severalRegistrations: notice((language) => language.several_registrations(site)),
    /** The link to a new password. */
    passwordReset: linked('reset-password', (language, validFor) => language.password_reset(site, validFor)),
    /** The password is another one. */
    passwordChanged: notice((language) => language.password_changed(site)),
    /** The link that makes this address the account's. */
    emailChange: linked('change-email', (language, validFor) => language.email_change(site, validFor)),
    /** The account is to get another address than this one. */
    emailChangeNotice: notice((language) => language.email_change_notice(site)),
    /** The account has another address than this one. */
    emailChanged: notice((language) => language.email_changed(site)),
  };

  for (const { tag } of languages) for (const mail of Object.values(mails)) mail(tag, 'warm-up');
  return mails;
}

export type Mails = ReturnType<typeof createMails>;
