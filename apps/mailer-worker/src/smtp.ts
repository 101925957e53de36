/** The way to the mail server: one pool of connections per worker, and what its answers mean for a mail. */
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { createTransport, type SendMailOptions } from 'nodemailer';
import type { ComposedMail } from './composer.ts';

/** Most conversations of a worker, whatever its concurrency: Postfix takes 50 from one client by default (`smtpd_client_connection_count_limit`). */
const MAX_CONNECTIONS = 50;

/**
 * Milliseconds. Opening a connection (`connectionTimeout`: name and greeting included) may fail fast, the job comes again. Once the message
 * is under way it may not: RFC 5321 section 4.5.3.2.6 asks to wait 10 minutes for the answer to the final dot, because giving up earlier is
 * how mails get sent twice.
 */
const TIMEOUTS = { dnsTimeout: 10_000, connectionTimeout: 10_000, greetingTimeout: 30_000, socketTimeout: 600_000 };

/** Milliseconds of silence after the greeting that end a look for the server: nothing is lost by it. */
const LOOK_TIMEOUT = 10_000;

/** Key and place of a DKIM signature (RFC 6376): the public half is at `<selector>._domainkey.<domain>`. */
export interface Dkim {
  readonly domain: string;
  readonly selector: string;
  /** PEM, RSA. */
  readonly privateKey: string;
}

/** What the caller is told of a conversation, and may stop. */
export interface Turn {
  /** A connection is there and logged in, and this mail is about to be offered to the server: from here on a failure may be about the mail. */
  begins(): void;
  /** The server is ready for the mail's data. Not a byte of it goes out before this resolves, and none if it rejects. */
  beforeData(): Promise<void>;
}

interface Outgoing extends SendMailOptions {
  readonly turn: Turn;
}

/**
 * @param url `SMTP_URL`; an option in its query wins over those set here.
 * @param dkim signs each mail with it.
 */
export function createMailTransport(url: string, dkim?: Dkim, lookTimeout = LOOK_TIMEOUT) {
  const connections = Number(new URL(url).searchParams.get('maxConnections')) || MAX_CONNECTIONS;
  const transport = createTransport({
    url,
    pool: true,
    // Opened as mails are in flight: those in the worker's slots and those that are set aside (pacing.ts).
    maxConnections: connections,
    // A fresh connection every 100 mails, nodemailer's default, costs a third of the rate and gains nothing here.
    maxMessages: Number.POSITIVE_INFINITY,
    ...TIMEOUTS,
    ...(dkim && { dkim: { domainName: dkim.domain, keySelector: dkim.selector, privateKey: dkim.privateKey } }),
  });
  const looks = createTransport({ url, ...TIMEOUTS, socketTimeout: lookTimeout });

  // Nodemailer asks for the mail's stream when it has a connection for it, and reads it once the server has answered DATA with 354.
  transport.use('stream', ({ message, data }, done) => {
    const { turn } = data as unknown as Outgoing;
    // It notes in the envelope what a server has refused, and would believe it over the next connection too.
    const { from, to } = message.getEnvelope();
    message.getEnvelope = () => ({ from, to: [...to] });
    const open = message.createReadStream.bind(message);
    message.createReadStream = (options) => {
      turn.begins();
      return gated(turn, () => open(options));
    };
    done();
  });

  return {
    /** Conversations there can be at once; a mail beyond them would wait in nodemailer's queue, its key running out. */
    connections,

    /**
     * @param to one plain mailbox.
     * @param signal ends the conversation.
     * @throws what {@link readSmtpFailure} reads, or whatever `turn` threw wrapped in it.
     */
    async send(
      { sender, message }: ComposedMail,
      to: string,
      turn: Turn,
      signal: AbortSignal | undefined,
    ): Promise<void> {
      // An object is taken as it is: a string would be parsed, and could name more than one recipient.
      const envelope = { from: { name: '', address: sender }, to: { name: '', address: to } };
      const outgoing: Outgoing = { raw: message, envelope, signal, turn };
      await transport.sendMail(outgoing);
    },

    /** Opens a connection, logs in and leaves. Rejects when that fails. */
    verify: () => looks.verify(),

    /** Ends every conversation. */
    close: () => transport.close(),
  };
}

/** Built while the ledger is asked, and handed on in one piece: nodemailer makes a mail in many, and each would cost a write to the socket. */
function gated(turn: Turn, open: () => Readable): Readable {
  return new Readable({
    read() {
      Promise.all([whole(open()), turn.beforeData()]).then(
        ([mail]) => {
          this.push(mail);
          this.push(null);
        },
        (error: Error) => this.destroy(error),
      );
    },
  });
}

/** Not `buffer` of `node:stream/consumers`: that goes by way of a Blob. */
async function whole(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(stream, 'end');
  return Buffer.concat(chunks);
}

export type MailTransport = ReturnType<typeof createMailTransport>;

/** What a failed try to send means. */
export interface SmtpFailure {
  /** Trying again cannot help: the server (or the address itself) refuses this mail for good. */
  readonly permanent: boolean;
  /** The server answered no, so the mail surely did not go out. */
  readonly refused: boolean;
  /** The reply code, when there was a reply. */
  readonly code: number | undefined;
  /** The server's words or the kind of error, fit for logs and for the failed set: see {@link harmless}. */
  readonly reason: string;
}

/** Commands whose 5yz reply is about this mail; before them (greeting, EHLO, AUTH) it is about us, which an operator can mend. */
const ABOUT_THE_MAIL = new Set(['MAIL FROM', 'RCPT TO', 'DATA']);

/**
 * 5yz replies that mean the session and not the mail: bad sequence (RFC 5321), authentication required (RFC 4954 section 6, RFC 3207
 * section 4: STARTTLS first), encryption required for it (RFC 4954).
 */
const ABOUT_THE_SESSION = new Set([503, 530, 538]);

/** Reads an error of `sendMail`. */
export function readSmtpFailure(error: unknown): SmtpFailure {
  const { code, command, response, responseCode } = fieldsOf(error);
  const aboutTheMail = command !== undefined && ABOUT_THE_MAIL.has(command);
  // Nodemailer refuses a broken address or envelope before it says a word to the server.
  const refusedByClient = command === 'API' && (code === 'EENVELOPE' || code === 'EMESSAGE');
  const permanentReply = responseCode !== undefined && responseCode >= 500 && !ABOUT_THE_SESSION.has(responseCode);
  const place = command === undefined || command === 'CONN' ? '' : ` at ${command}`;
  return {
    permanent: refusedByClient || (aboutTheMail && permanentReply),
    refused: refusedByClient || (responseCode !== undefined && responseCode >= 400),
    code: responseCode,
    reason: response === undefined ? `${code ?? 'unknown error'}${place}` : harmless(`${response}${place}`),
  };
}

function fieldsOf(error: unknown) {
  const fields: Record<string, unknown> = error instanceof Error ? { ...error } : {};
  const text = (value: unknown) => (typeof value === 'string' && value !== '' ? value : undefined);
  return {
    code: text(fields.code),
    command: text(fields.command),
    response: text(fields.response),
    responseCode: typeof fields.responseCode === 'number' ? fields.responseCode : undefined,
  };
}

/**
 * A server's words without what they may quote from the mail: content filters like to name the link they dislike, and the link holds the
 * key. Addresses lose their local part.
 */
function harmless(words: string): string {
  return words
    .replaceAll(/\p{C}+/gu, ' ')
    .replaceAll(/\S*(?::\/\/|%3A%2F%2F|\/activate|\/reset-password|\/change-email)\S*/gi, '[link]')
    .replaceAll(/[A-Za-z0-9]{24,}/g, '[cut]')
    .replaceAll(/[^\s<>,;:]+@/g, '***@')
    .slice(0, 200);
}
