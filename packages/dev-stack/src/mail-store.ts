/** The caught mails: in memory, the newest thousand, and as .eml files where they are to survive a restart. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import PostalMime from 'postal-mime';

/** A mail as it arrived and as a reader sees it. */
export type Mail = {
  /** Counts up, also over a restart and after `clear`: `000042`. */
  readonly id: string;
  /** The envelope's sender and recipients: where it really went, whatever its headers say. */
  readonly from: string;
  readonly to: readonly string[];
  readonly subject: string;
  /** Empty when the mail has no such part. */
  readonly text: string;
  readonly html: string;
  /** By lower-case name, unfolded; of repeated headers the topmost. */
  readonly headers: ReadonlyMap<string, string>;
  /** The message as it was transmitted, byte for byte. */
  readonly raw: string;
  readonly receivedAt: Date;
};

export type Envelope = { readonly from: string; readonly to: readonly string[] };

/** Mails that are kept unless more are asked for. */
const KEPT = 1000;

export class MailStore {
  readonly #dir: string | undefined;
  readonly #keep: number;
  readonly #mails: Mail[] = [];
  readonly #watchers = new Set<() => void>();
  #lastId = 0;

  private constructor(dir: string | undefined, keep: number) {
    this.#dir = dir;
    this.#keep = keep;
  }

  /**
   * Opens the store with what its folder holds.
   * @param keep mails; the oldest go first.
   */
  static async open(dir: string | undefined, keep = KEPT): Promise<MailStore> {
    const store = new MailStore(dir, keep);
    if (dir !== undefined) {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
      for (const file of readdirSync(dir)
        .filter((name) => /^\d+\.eml$/.test(name))
        .sort()) {
        const stored = fromFile(readFileSync(join(dir, file), 'latin1'));
        if (stored !== undefined) {
          const id = file.slice(0, -'.eml'.length);
          store.#lastId = Number(id);
          store.#mails.push(await parse(id, stored.envelope, stored.raw, stored.receivedAt));
        }
      }
      store.#forgetOldest();
    }
    return store;
  }

  /** Keeps a mail; when it resolves, the mail is listed and on disk. */
  async add(envelope: Envelope, raw: Buffer): Promise<Mail> {
    this.#lastId += 1;
    const id = String(this.#lastId).padStart(6, '0');
    const mail = await parse(id, envelope, raw, new Date());
    if (this.#dir !== undefined) {
      writeFileSync(join(this.#dir, `${id}.eml`), toFile(mail, raw), { mode: 0o600 });
    }
    this.#mails.push(mail);
    this.#forgetOldest();
    for (const watcher of this.#watchers) {
      watcher();
    }
    return mail;
  }

  /** Oldest first; with an address only what went to it (case does not count). */
  list(to?: string): readonly Mail[] {
    const wanted = to?.toLowerCase();
    return wanted === undefined
      ? [...this.#mails]
      : this.#mails.filter((mail) => mail.to.some((address) => address.toLowerCase() === wanted));
  }

  get(id: string): Mail | undefined {
    return this.#mails.find((mail) => mail.id === id);
  }

  clear(): void {
    this.#remove(this.#mails.splice(0));
  }

  /** Calls back after each mail that arrives, until the returned function is called. */
  watch(callback: () => void): () => void {
    this.#watchers.add(callback);
    return () => this.#watchers.delete(callback);
  }

  #forgetOldest(): void {
    this.#remove(this.#mails.splice(0, Math.max(0, this.#mails.length - this.#keep)));
  }

  #remove(mails: readonly Mail[]): void {
    for (const { id } of this.#dir === undefined ? [] : mails) {
      rmSync(join(this.#dir ?? '', `${id}.eml`), { force: true });
    }
  }
}

async function parse(id: string, { from, to }: Envelope, raw: Buffer, receivedAt: Date): Promise<Mail> {
  const email = await PostalMime.parse(raw);
  const headers = new Map<string, string>();
  for (const { key, value } of email.headers) {
    if (!headers.has(key)) {
      headers.set(key, value);
    }
  }
  return {
    id,
    from,
    to,
    subject: email.subject ?? '',
    text: email.text ?? '',
    html: email.html ?? '',
    headers,
    raw: raw.toString('utf8'),
    receivedAt,
  };
}

/** As a mail server delivers: the envelope as headers of its own on top (RFC 5321, 4.4), the mail untouched below. */
function toFile(mail: Mail, raw: Buffer): Buffer {
  const trace = [
    `Return-Path: <${mail.from}>`,
    ...mail.to.map((address) => `Delivered-To: ${address}`),
    `X-Received-At: ${mail.receivedAt.toISOString()}`,
  ];
  return Buffer.concat([Buffer.from(`${trace.join('\r\n')}\r\n`), raw]);
}

/** @param file The bytes as latin1, one character each. */
function fromFile(file: string): { envelope: Envelope; raw: Buffer; receivedAt: Date } | undefined {
  const trace = /^Return-Path: <(.*)>\r\n((?:Delivered-To: .*\r\n)*)X-Received-At: (.*)\r\n/.exec(file);
  if (trace === null) {
    return undefined;
  }
  const [whole, from = '', delivered = '', receivedAt = ''] = trace;
  const utf8 = (text: string): string => Buffer.from(text, 'latin1').toString('utf8');
  return {
    envelope: {
      from: utf8(from),
      to: [...delivered.matchAll(/Delivered-To: (.*)\r\n/g)].map(([, to = '']) => utf8(to)),
    },
    raw: Buffer.from(file.slice(whole.length), 'latin1'),
    receivedAt: new Date(receivedAt),
  };
}
