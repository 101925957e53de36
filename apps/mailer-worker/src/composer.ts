/**
 * Mails as they go to the mail server. All mails of a kind and language are alike but for their id, date, key and recipient: nodemailer
 * composes one with stand-ins, and each mail is a copy of it in which they are written over (ADR 28).
 */
import { randomUUID } from 'node:crypto';
import { createTransport } from 'nodemailer';
import { newKey } from './mail-keys.ts';
import { languageOf, type Mails } from './mails.ts';
import { domainOf } from './pacing.ts';

/** What a mail has of its own. */
interface Own {
  /** The id of the outbox row: what stands before the `@` of the Message-ID. */
  readonly id: string;
  /** One plain mailbox. */
  readonly to: string;
  readonly date: Date;
  /** Of the link, where the mail has one. */
  readonly key?: string | undefined;
}

export interface ComposedMail {
  /** The sender, as SMTP's MAIL is given it. */
  readonly sender: string;
  readonly message: Buffer;
}

/** One mail of a kind and language. */
interface Form {
  readonly sender: string;
  /** All of it but its recipient. */
  readonly message: Buffer;
  /** Where, octet for octet, the stand-ins are. */
  readonly id: readonly number[];
  readonly date: readonly number[];
  readonly key: readonly number[];
}

/** Most characters of a line: as nodemailer breaks them, within the 78 of RFC 5322 section 2.1.1. */
const LINE = 75;

/** As long and of the same letters as what is written over them, and found nowhere else. */
const STAND_INS = { id: randomUUID(), date: dateTime(new Date(0)), key: newKey() };

/**
 * @param from `MAIL_FROM`.
 * @param publicUrl `PUBLIC_URL`: its host is the right side of every Message-ID.
 * @returns composes the mail of a kind in the language for a BCP 47 tag.
 */
export function createComposer(mails: Mails, from: string, publicUrl: string) {
  const messageHost = new URL(publicUrl).hostname;
  const nodemailer = createTransport({ streamTransport: true, buffer: true });
  const forms = new Map<string, Promise<Form>>();

  async function makeForm(kind: keyof Mails, language: string): Promise<Form> {
    const { subject, text, html } = mails[kind](language, STAND_INS.key);
    const { message, envelope } = await nodemailer.sendMail({
      from,
      subject,
      text,
      html,
      // Never base64, in which a stand-in would not be found.
      textEncoding: 'Q',
      messageId: `<${STAND_INS.id}@${messageHost}>`,
      date: new Date(0),
      headers: {
        // RFC 3834: no vacation notice answers it.
        'Auto-Submitted': 'auto-generated',
        'X-Auto-Response-Suppress': 'All',
        'Content-Language': language,
      },
      disableFileAccess: true,
      disableUrlAccess: true,
    });
    if (!Buffer.isBuffer(message) || envelope.from === false) throw new TypeError('nodemailer has composed no mail');
    const places = (standIn: string, times: number) => placesOf(message.toString('latin1'), standIn, times);
    return {
      sender: envelope.from,
      message,
      id: places(STAND_INS.id, 1),
      date: places(STAND_INS.date, 1),
      key: places(STAND_INS.key, `${text}${html}`.split(STAND_INS.key).length - 1),
    };
  }

  function formOf(kind: keyof Mails, language: string): Promise<Form> {
    const name = `${kind} ${language}`;
    const known = forms.get(name);
    if (known !== undefined) return known;
    const form = makeForm(kind, language);
    forms.set(name, form);
    form.catch(() => forms.delete(name));
    return form;
  }

  return async (kind: keyof Mails, locale: string, { id, to, date, key }: Own): Promise<ComposedMail> => {
    const form = await formOf(kind, languageOf(locale));
    // Or its link would be dead, or somebody else's.
    if ((key === undefined) !== (form.key.length === 0))
      throw new TypeError(`${kind} has a key, or none, against its text`);
    const recipient = recipientHeader(to);
    const message = Buffer.concat([recipient, form.message]);
    const shared = message.subarray(recipient.length);
    write(shared, form.id, id);
    write(shared, form.date, dateTime(date));
    write(shared, form.key, key ?? '');
    return { sender: form.sender, message };
  };
}

export type Composer = ReturnType<typeof createComposer>;

/** RFC 5322 section 3.6.3, with the domain as DNS has it. A mailbox can't be broken, so what is too long for a line gets one of its own. */
function recipientHeader(to: string): Buffer {
  const mailbox = `${to.slice(0, to.lastIndexOf('@'))}@${domainOf(to)}`;
  return Buffer.from(`To:${'To: '.length + mailbox.length > LINE ? '\r\n' : ''} ${mailbox}\r\n`);
}

/** RFC 5322 section 3.3; always of one length. */
function dateTime(date: Date): string {
  return date.toUTCString().replace('GMT', '+0000');
}

/**
 * The place of each character of the stand-in; quoted-printable may have broken the line in the middle of it.
 * @throws unless it is there so many times.
 */
function placesOf(mail: string, standIn: string, times: number): number[] {
  const places = [...mail.matchAll(/=\r\n|./gs)].flatMap(({ 0: part, index }) => (part.length === 1 ? [index] : []));
  const unbroken = places.map((place) => mail[place]).join('');
  const found: number[] = [];
  for (let at = unbroken.indexOf(standIn); at >= 0; at = unbroken.indexOf(standIn, at + 1))
    found.push(...places.slice(at, at + standIn.length));
  if (found.length !== times * standIn.length)
    throw new Error('nodemailer has not kept all that is to be written over');
  return found;
}

function write(message: Buffer, places: readonly number[], value: string): void {
  for (const [n, place] of places.entries()) message[place] = value.charCodeAt(n % value.length);
}
