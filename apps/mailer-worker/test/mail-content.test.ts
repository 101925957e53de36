import { keysOf } from '@latchkey/dev-stack/test-redis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createMails } from '../src/mails.ts';
import { createHarness, type Harness, keyIn, PUBLIC_URL } from './harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness();
  await harness.start();
});
afterAll(() => harness.close());

const keysMinted = async () => (await keysOf(harness.redis, `${harness.namespace}:activation-key:*`)).length;

async function arrive(name: string, change: Record<string, unknown> = {}) {
  const { id, to } = await harness.add(name, change);
  return { id, to, mail: await harness.catcher.waitFor(to) };
}

describe('a mail', () => {
  it.each([
    [
      'en',
      'en',
      'Activate your account at auth.latchkey.test',
      'good for 15 minutes',
      'Activate account',
      'ignore this mail',
    ],
    [
      'de',
      'de',
      'Aktivieren Sie Ihr Konto bei auth.latchkey.test',
      'gilt 15 Minuten',
      'Konto aktivieren',
      'ignorieren Sie diese E-Mail',
    ],
    [
      'de-AT',
      'de',
      'Aktivieren Sie Ihr Konto bei auth.latchkey.test',
      'gilt 15 Minuten',
      'Konto aktivieren',
      'ignorieren Sie diese E-Mail',
    ],
    [
      'fr-CA',
      'en',
      'Activate your account at auth.latchkey.test',
      'good for 15 minutes',
      'Activate account',
      'ignore this mail',
    ],
    [
      'del',
      'en',
      'Activate your account at auth.latchkey.test',
      'good for 15 minutes',
      'Activate account',
      'ignore this mail',
    ],
  ])(
    'that activates, for locale %s, is in "%s" in both parts',
    async (locale, language, subject, life, button, notYou) => {
      const { mail } = await arrive('activation', { locale });
      expect(mail.subject).toBe(subject);
      expect(mail.headers.get('content-language')).toBe(language);
      expect(mail.html).toContain(`<html lang="${language}"`);
      expect(mail.html).toContain(`>${button}</a>`);
      for (const part of [mail.html, mail.text]) {
        expect(part).toContain(life);
        expect(part).toContain(notYou);
      }
      const link = `${PUBLIC_URL}/activate/${keyIn(mail.text)}`;
      expect(mail.text.split('\n')).toContain(link);
      // The button, the link and its text.
      expect(mail.html.split(link)).toHaveLength(4);
    },
  );

  it.each([
    ['en', 'You already have an account at auth.latchkey.test', 'Somebody tried to register'],
    ['de', 'Sie haben bereits ein Konto bei auth.latchkey.test', 'Jemand wollte sich'],
    ['zh-Hant', 'You already have an account at auth.latchkey.test', 'Somebody tried to register'],
  ])('about an existing account, for locale %s, says so and has nothing to click', async (locale, subject, words) => {
    const before = await keysMinted();
    const { mail } = await arrive('account_exists', { locale });
    expect(await keysMinted()).toBe(before);
    expect(mail.subject).toBe(subject);
    for (const part of [mail.html, mail.text]) {
      expect(part).toContain(words);
      expect(part).not.toMatch(/https?:\/\/|<a\b/);
    }
  });

  it.each([
    [
      'password_reset',
      'en',
      'Choose a new password for auth.latchkey.test',
      'reset-password',
      'good for 15 minutes',
      'ignore this mail',
    ],
    [
      'password_reset',
      'de',
      'Wählen Sie ein neues Passwort für auth.latchkey.test',
      'reset-password',
      'gilt 15 Minuten',
      'ignorieren Sie',
    ],
    [
      'email_change',
      'en',
      'Confirm your new address for auth.latchkey.test',
      'change-email',
      'good for 15 minutes',
      'ignore this mail',
    ],
    [
      'email_change',
      'de',
      'Bestätigen Sie Ihre neue Adresse für auth.latchkey.test',
      'change-email',
      'gilt 15 Minuten',
      'ignorieren Sie',
    ],
  ])('of %s, in %s, has one page to open, in both parts', async (name, locale, subject, path, life, notYou) => {
    const { mail } = await arrive(name, { locale, attempt: 1 });
    expect(mail.subject).toBe(subject);
    expect(mail.html).toContain(`<html lang="${locale}"`);
    for (const part of [mail.html, mail.text]) {
      expect(part).toContain(life);
      expect(part).toContain(notYou);
    }
    const link = `${PUBLIC_URL}/${path}/${keyIn(mail.text)}`;
    expect(mail.text.split('\n')).toContain(link);
    // The button, the link and its text.
    expect(mail.html.split(link)).toHaveLength(4);
  });

  it.each([
    [
      'password_changed',
      'en',
      'Your password for auth.latchkey.test was changed',
      'ask auth.latchkey.test for a new password',
    ],
    ['password_changed', 'de', 'Ihr Passwort für auth.latchkey.test wurde geändert', 'sofort ein neues Passwort'],
    ['email_change', 'en', 'Another address for your account at auth.latchkey.test', 'change your password at once'],
    [
      'email_change',
      'de',
      'Eine andere Adresse für Ihr Konto bei auth.latchkey.test',
      'ändern Sie sofort Ihr Passwort',
    ],
    ['email_changed', 'en', 'The address of your account at auth.latchkey.test was changed', 'get in touch with'],
    [
      'email_changed',
      'de',
      'Die Adresse Ihres Kontos bei auth.latchkey.test wurde geändert',
      'Wenden Sie sich sofort an',
    ],
  ])('that only tells (%s, in %s) says what to do and has nothing to click', async (name, locale, subject, words) => {
    const { mail } = await arrive(name, { locale });
    expect(mail.subject).toBe(subject);
    expect(mail.html).toContain(`<html lang="${locale}"`);
    for (const part of [mail.html, mail.text]) {
      expect(part).toContain(words);
      expect(part).not.toMatch(/https?:\/\/|<a\b/);
    }
  });

  it('loads nothing from anywhere and tracks nobody', async () => {
    const { mail } = await arrive('activation');
    expect(mail.html).not.toMatch(/<img|<script|<link|<iframe|@import|url\(|\bsrc=/i);
    expect(mail.html).toContain('color-scheme: light dark');
  });

  it('says what answers it needs: none', async () => {
    const { id, to, mail } = await arrive('activation');
    expect(mail.headers.get('auto-submitted')).toBe('auto-generated');
    expect(mail.headers.get('x-auto-response-suppress')).toBe('All');
    expect(mail.headers.get('from')).toBe('Latchkey <no-reply@latchkey.test>');
    expect(mail.from).toBe('no-reply@latchkey.test');
    expect(mail.headers.get('to')).toBe(to);
    expect(mail.headers.get('message-id')).toBe(`<${id}@auth.latchkey.test>`);
    expect(Math.abs(Date.parse(mail.headers.get('date') ?? '') - Date.now())).toBeLessThan(60_000);
    expect(mail.headers.get('content-type')).toContain('multipart/alternative');
  });

  it.each([
    [900, '15 minutes', '15 Minuten'],
    [60, '1 minute', '1 Minute'],
    [3600, '1 hour', '1 Stunde'],
    [5400, '90 minutes', '90 Minuten'],
    [172_800, '2 days', '2 Tage'],
    [45, '45 seconds', '45 Sekunden'],
    // Never more than it is.
    [1000, '16 minutes', '16 Minuten'],
  ])('says %i s in words', (seconds, english, german) => {
    const mails = createMails(PUBLIC_URL, seconds);
    expect(mails.activation('en', 'k').text).toContain(`good for ${english} from`);
    expect(mails.activation('de', 'k').text).toContain(`gilt ${german} ab`);
  });

  it('escapes what it is filled with in HTML, and leaves text as it is', () => {
    const mail = createMails('https://auth.latchkey.test/a&b', 900).activation('en', 'k');
    expect(mail.html).toContain('https://auth.latchkey.test/a&amp;b/activate/k');
    expect(mail.html).not.toContain('a&b');
    expect(mail.text).toContain('https://auth.latchkey.test/a&b/activate/k');
  });
});
