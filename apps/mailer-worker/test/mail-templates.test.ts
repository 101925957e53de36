import { startProcess } from '@latchkey/dev-stack/processes';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { programOnPath } from '@latchkey/dev-stack/system-programs';
import { chromium } from 'playwright-core';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { createPreview } from '../preview/pages.ts';
import { createMails, LANGUAGES } from '../src/mails.ts';
import { contrast, MIN_CONTRAST, palettes, type Theme } from '../src/theme.ts';
import { PUBLIC_URL } from './harness.ts';

const chromiumPath = programOnPath('chromium');

const KEY = 'A'.repeat(32);
const FULL = {
  name: 'Acme & "Söhne" <GmbH>',
  color: '#ffd400',
  logoUrl: 'https://cdn.acme.test/logo.png',
  supportAddress: 'help@acme.test',
} satisfies Theme;

const plain = createMails(PUBLIC_URL, 900);
const themed = createMails(PUBLIC_URL, 900, FULL);
const every = Object.keys(plain).flatMap((name) => LANGUAGES.map((language) => ({ name, language })));

function rendered(mails: typeof plain, name: string, language: string) {
  const mail = Object.entries(mails).find(([known]) => known === name)?.[1];
  if (!mail) throw new Error(`no mail ${name}`);
  return mail(language, KEY);
}

/** What a recipient reads: no markup, no style, entities as their characters. */
const words = (html: string): string =>
  html
    .replace(/<(style|title)>.*?<\/\1>/gs, '')
    .replaceAll(/<!--.*?-->|<[^>]*>/gs, ' ')
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&')
    .replaceAll(/\s+/g, ' ');
const links = (html: string): string[] => [...html.matchAll(/href="([^"]*)"/g)].map(([, link = '']) => link);

describe.each(every)('$name in $language', ({ name, language }) => {
  test('names its language, lays out with tables that screen readers pass over, and has no empty link', () => {
    const { html, subject } = rendered(themed, name, language);
    expect(html).toContain(`<html lang="${language}"`);
    // Webmail takes html and body away.
    expect(html).toMatch(new RegExp(`<div role="article" aria-label="[^"]+" lang="${language}"`));
    expect(html.match(/<table(?! role="presentation")/)).toBeNull();
    expect(html).not.toMatch(/<a [^>]*>\s*<\/a>|undefined|\[object/);
    expect(subject).not.toMatch(/[\r\n]/);
  });

  test('says the same in its plain text, with the same links', () => {
    const { html, text } = rendered(themed, name, language);
    const read = words(html);
    for (const paragraph of text.split(/\n+/).filter((line) => line !== '')) expect(read).toContain(paragraph);
    for (const link of links(html)) expect(text).toContain(link.replace(/^mailto:/, ''));
    expect(text).toContain('help@acme.test');
    expect(text).not.toMatch(/&(?:amp|lt|quot|#39);/);
  });

  test('loads nothing but the logo, and leads nowhere but to us', () => {
    const remote = (html: string) => [...html.matchAll(/(?:src|background|srcset)="([^"]*)"|url\(([^)]*)\)/g)];
    expect(remote(rendered(plain, name, language).html)).toEqual([]);
    const { html } = rendered(themed, name, language);
    expect(remote(html).map(([, source]) => source)).toEqual([FULL.logoUrl]);
    expect(html).toContain('alt="Acme &amp; &quot;Söhne&quot; &lt;GmbH&gt;"');
    expect(html).not.toMatch(/<script|<link|<iframe|@import/i);
    for (const link of links(html))
      expect(link).toMatch(/^(?:https:\/\/auth\.latchkey\.test\/|mailto:help@acme\.test$)/);
  });
});

test('a language there is not is English', () => {
  for (const { name } of every) expect(rendered(plain, name, 'fr-CA')).toEqual(rendered(plain, name, 'en'));
});

test.each(['#1d4ed8', '#ffffff', '#000000', '#ffd400', '#767676', '#808080', '#00ff00', '#ff0000'])(
  'whatever the colour (%s), every text has enough contrast in both schemes',
  (color) => {
    for (const each of Object.values(palettes({ color }))) {
      for (const ground of [each.page, each.card])
        for (const text of [each.text, each.link]) expect(contrast(text, ground)).toBeGreaterThanOrEqual(MIN_CONTRAST);
      expect(contrast(each.quiet, each.page)).toBeGreaterThanOrEqual(MIN_CONTRAST);
      expect(contrast(each.buttonText, each.button)).toBeGreaterThanOrEqual(MIN_CONTRAST);
    }
  },
);

test('contrast is that of WCAG', () => {
  expect(contrast('#000000', '#ffffff')).toBeCloseTo(21, 5);
  expect(contrast('#777777', '#ffffff')).toBeCloseTo(4.478, 3);
});

describe('the preview', () => {
  test('starts as the script starts it, and shows every mail in every language, as HTML and as text', async () => {
    const output: string[] = [];
    const preview = startProcess({
      command: process.execPath,
      args: [`${repositoryRoot}/apps/mailer-worker/preview/main.ts`],
      env: { PATH: process.env.PATH, PORT: '0', MAIL_THEME_NAME: 'Acme' },
      endSignal: 'SIGTERM',
      output: (line) => output.push(line),
    });
    onTestFinished(async () => void (await preview.stop()));
    const url = await vi.waitFor(
      () => {
        const [found] = /http:\S+/.exec(output.join('\n')) ?? [];
        if (found === undefined) throw new Error('has not started');
        return found;
      },
      { timeout: 20_000 },
    );
    const index = await (await fetch(url)).text();
    for (const { name, language } of every)
      for (const part of ['light', 'dark', 'text']) {
        expect(index).toContain(`src="/${name}/${language}/${part}"`);
        const answer = await fetch(`${url}/${name}/${language}/${part}`);
        expect([answer.status, await answer.text()]).toEqual([200, expect.stringContaining('Acme')]);
      }
    expect((await fetch(`${url}/activation/fr/light`)).status).toBe(404);
  });

  test('in a browser: no mail is wider than 320 px, in either scheme', {
    skip: chromiumPath === undefined,
    timeout: 120_000,
  }, async () => {
    const app = createPreview(themed);
    const url = await app.listen({ host: '127.0.0.1', port: 0 });
    const browser = await chromium.launch({
      ...(chromiumPath !== undefined && { executablePath: chromiumPath }),
      args: ['--disable-gpu', '--disable-background-networking', '--disable-component-update', '--no-first-run'],
    });
    onTestFinished(async () => {
      await browser.close();
      await app.close();
    });
    const page = await browser.newPage({ viewport: { width: 320, height: 700 } });
    // The logo is somebody else's.
    await page.route(/cdn\.acme\.test/, (route) => route.abort());
    for (const { name, language } of every)
      for (const scheme of ['light', 'dark']) {
        await page.goto(`${url}/${name}/${language}/${scheme}`);
        expect({ name, language, width: await page.evaluate('document.documentElement.scrollWidth') }).toEqual({
          name,
          language,
          width: 320,
        });
      }
  });
});
