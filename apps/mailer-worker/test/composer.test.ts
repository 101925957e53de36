import { randomUUID } from 'node:crypto';
import { createTransport } from 'nodemailer';
import { describe, expect, it } from 'vitest';
import { createComposer } from '../src/composer.ts';
import { newKey } from '../src/mail-keys.ts';
import { createMails, LANGUAGES, type Mails } from '../src/mails.ts';

const FROM = 'Schlüsseldienst <no-reply@latchkey.test>';
const DATE = new Date('2026-11-28T12:34:56Z');
const nodemailer = createTransport({ streamTransport: true, buffer: true });

/** What nodemailer makes of one mail when it is asked for just that one. */
async function composedAlone(mails: Mails, kind: keyof Mails, language: string, own: Own): Promise<string> {
  const { subject, text, html } = mails[kind](language, own.key);
  const { message } = await nodemailer.sendMail({
    from: FROM,
    to: own.to,
    subject,
    text,
    html,
    messageId: `<${own.id}@auth.latchkey.test>`,
    date: own.date,
    headers: {
      'Auto-Submitted': 'auto-generated',
      'X-Auto-Response-Suppress': 'All',
      'Content-Language': language,
    },
  });
  return String(message);
}

interface Own {
  id: string;
  to: string;
  date: Date;
  key: string;
}
const own = (change: Partial<Own> = {}): Own => ({
  id: randomUUID(),
  to: 'ada@recipient.test',
  date: DATE,
  key: newKey(),
  ...change,
});

/** The order of headers and the name of the boundary mean nothing. */
function withoutArbitrary(mail: string): string {
  const boundary = /boundary="([^"]+)"/.exec(mail)?.[1] ?? 'none';
  const [to = 'no recipient'] = /^To:(?:\r\n)? .*$/m.exec(mail) ?? [];
  return `${to}\n${mail.replace(`${to}\r\n`, '').replaceAll(boundary, 'boundary')}`;
}

describe('a composed mail', () => {
  // Of every length: so a line is broken at every place of the key.
  const paths = Array.from({ length: 76 }, (_, length) => `/${'x'.repeat(length)}`);

  it.each(LANGUAGES)(
    'in "%s" is the one nodemailer composes alone, wherever its lines are broken',
    async (language) => {
      const kinds = Object.keys(createMails('https://auth.latchkey.test', 900)) as (keyof Mails)[];
      for (const path of paths) {
        const mails = createMails(`https://auth.latchkey.test${path}`, 900, { name: 'Müller & Söhne' });
        const compose = createComposer(mails, FROM, `https://auth.latchkey.test${path}`);
        for (const kind of kinds) {
          const one = own();
          const linked = mails[kind](language, one.key).text.includes(one.key);
          const { sender, message } = await compose(kind, language, linked ? one : { ...one, key: undefined });
          expect(sender).toBe('no-reply@latchkey.test');
          expect(withoutArbitrary(String(message))).toBe(
            withoutArbitrary(await composedAlone(mails, kind, language, one)),
          );
        }
      }
    },
  );

  const mails = createMails('https://auth.latchkey.test', 900);
  const compose = createComposer(mails, FROM, 'https://auth.latchkey.test');

  it.each([
    'ada@RECIPIENT.test',
    'Ada+tag@recipient.test',
    'ada@bücher.example',
    'ädä@recipient.test',
    `${'a'.repeat(57)}@recipient.test`,
    `${'a'.repeat(56)}@recipient.test`,
    `${'a'.repeat(64)}@${'b'.repeat(60)}.${'c'.repeat(60)}.${'d'.repeat(50)}.test`,
  ])('to %s names its recipient as nodemailer does', async (to) => {
    const one = own({ to });
    const { message } = await compose('activation', 'en', one);
    expect(withoutArbitrary(String(message))).toBe(
      withoutArbitrary(await composedAlone(mails, 'activation', 'en', one)),
    );
  });

  it('is its own: another one of its kind leaves it as it is', async () => {
    const one = own();
    const { message } = await compose('activation', 'en', one);
    const before = String(message);
    const other = own({ to: 'bob@recipient.test', date: new Date(0) });
    const { message: second } = await compose('activation', 'en', other);
    expect(String(message)).toBe(before);
    for (const its of [one.id, one.to, one.key]) {
      expect(before).toContain(its);
      expect(String(second)).not.toContain(its);
    }
  });

  it.each([
    ['with a key for which its text has no place', { ...mails, activation: mails.passwordChanged }, own().key],
    ['without a key for the place its text has', mails, undefined],
  ])('%s is not sent', async (_what, texts, key) => {
    const one = { ...own(), key };
    await expect(createComposer(texts, FROM, 'https://auth.latchkey.test')('activation', 'en', one)).rejects.toThrow(
      'against its text',
    );
  });

  it('has its key in both parts, whatever letters the service has in its name', async () => {
    const named = createMails('https://auth.latchkey.test', 900, { name: '🔑'.repeat(200) });
    const one = own();
    const { message } = await createComposer(named, FROM, 'https://auth.latchkey.test')('activation', 'en', one);
    expect(String(message).replaceAll('=\r\n', '').split(one.key)).toHaveLength(1 + 4);
  });

  it('that could not be composed once is composed the next time', async () => {
    let broken = true;
    const activation: typeof mails.activation = (...given) => {
      if (broken) throw new Error('broken');
      return mails.activation(...given);
    };
    const twice = createComposer({ ...mails, activation }, FROM, 'https://auth.latchkey.test');
    await expect(twice('activation', 'en', own())).rejects.toThrow('broken');
    broken = false;
    expect((await twice('activation', 'en', own())).message.length).toBeGreaterThan(1000);
  });
});
