/** Turns what a page has to say into HTML. Every page is the same card: a symbol, a heading, a few words, at most one button. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Eta } from 'eta';
import { inWords } from './language.ts';
import { type Language, type Text, type Texts, texts } from './strings.ts';

/** What a form of the page asks for. */
export type Action = 'activate' | 'renew' | 'confirm';

/** Pages that say what went wrong; `retry` is what the button tries again, without it the page is opened anew. */
type FailurePage =
  | { name: 'unavailable' | 'invalid' | 'failed'; retry?: Action }
  | { name: 'limited'; wait: number; retry?: Action };

/** A page and its facts; `validFor` and `wait` are seconds. */
export type Page =
  | { name: 'pending'; email: string; validFor: number }
  | { name: 'activated'; email: string }
  | { name: 'expired' | 'renewed' | 'used' | 'superseded' | 'unknown' }
  | { name: 'choosePassword'; email: string; validFor: number }
  | { name: 'weakPassword'; email: string }
  | { name: 'passwordSet' | 'resetExpired' | 'resetUsed' | 'resetUnknown' }
  | { name: 'confirmAddress'; email: string; validFor: number }
  | { name: 'addressConfirmed'; email: string }
  | { name: 'changeExpired' | 'changeUsed' | 'changeUnknown' }
  | FailurePage;

/** The two files and the icon the pages load: nothing else, from nowhere else. */
export const ASSETS_FOLDER = join(import.meta.dirname, 'assets');

const SYMBOLS: Record<Page['name'], string> = {
  pending: 'key',
  activated: 'check',
  used: 'check',
  expired: 'clock',
  limited: 'clock',
  unavailable: 'clock',
  renewed: 'mail',
  superseded: 'mail',
  choosePassword: 'key',
  weakPassword: 'key',
  passwordSet: 'check',
  resetUsed: 'check',
  resetExpired: 'clock',
  resetUnknown: 'question',
  confirmAddress: 'mail',
  addressConfirmed: 'check',
  changeUsed: 'check',
  changeExpired: 'clock',
  changeUnknown: 'question',
  unknown: 'question',
  invalid: 'question',
  failed: 'question',
};

/** Changes whenever an asset does, so that browsers may keep what they load under it. */
function fingerprintOf(folder: string): string {
  const hash = createHash('sha256');
  for (const file of readdirSync(folder).toSorted()) hash.update(file).update(readFileSync(join(folder, file)));
  return hash.digest('base64url').slice(0, 16);
}

function textOf(page: Page, speak: Texts, site: string, language: Language): Text {
  switch (page.name) {
    case 'pending':
    case 'choosePassword':
    case 'confirmAddress':
      return speak[page.name](site, inWords(page.validFor, language));
    case 'limited':
      return speak.limited(inWords(page.wait, language));
    case 'activated':
    case 'expired':
    case 'used':
    case 'unknown':
    case 'passwordSet':
    case 'resetExpired':
    case 'resetUsed':
    case 'resetUnknown':
    case 'addressConfirmed':
    case 'changeExpired':
    case 'changeUsed':
    case 'changeUnknown':
      return speak[page.name](site);
    default:
      return speak[page.name];
  }
}

/** What the page's button posts; undefined: it only opens the page again. */
function actionOf(page: Page): Action | undefined {
  if (page.name === 'pending') return 'activate';
  if (page.name === 'expired') return 'renew';
  if (page.name === 'confirmAddress') return 'confirm';
  return 'retry' in page ? page.retry : undefined;
}

export type Pages = ReturnType<typeof createPages>;

/** @param publicUrl base of what people see: its host names the site, its path leads to the assets. */
export function createPages(publicUrl: string) {
  const eta = new Eta({ views: join(import.meta.dirname, 'views'), cache: true, autoEscape: true });
  const { host, pathname } = new URL(publicUrl);
  const assets = `${pathname.replace(/\/$/, '')}/assets`;
  const fingerprint = fingerprintOf(ASSETS_FOLDER);
  return {
    fingerprint,

    render(page: Page, language: Language): string {
      return eta.render('page', {
        language,
        site: host,
        text: textOf(page, texts[language], host, language),
        symbol: SYMBOLS[page.name],
        action: actionOf(page),
        email: 'email' in page ? page.email : undefined,
        passwordWeak: page.name === 'weakPassword',
        asset: (file: string) => `${assets}/${file}?v=${fingerprint}`,
      });
    },
  };
}
