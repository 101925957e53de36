/** A mail server that delivers nothing: it keeps what it is given and shows it, to people in an inbox, to tests here. */
import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { SMTPServer, type SMTPServerSession } from 'smtp-server';
import { createInbox } from './inbox.ts';
import { type Mail, MailStore } from './mail-store.ts';
import { onFreePort, portTaken } from './ports.ts';

/** Where an SMTP conversation stands when a suite is asked what to do: connected, MAIL FROM, RCPT TO, after the data. */
export type SmtpPhase = 'connect' | 'mail' | 'rcpt' | 'data';

/** An SMTP answer other than success, RFC 5321 section 4.2: 4xx try again, 5xx never. */
export type SmtpRejection = { readonly code: number; readonly message: string };

export type MailCatcherOptions = {
  /** Default: a free one. */
  readonly smtpPort?: number | undefined;
  readonly webPort?: number | undefined;
  /** The address the inbox listens on. SMTP always stays on 127.0.0.1. Default: 127.0.0.1. */
  readonly webHost?: string | undefined;
  /** Folder of .eml files, so that the inbox survives a restart. Without it: memory only. */
  readonly dir?: string | undefined;
  /** How many mails are kept. Default: the last 1000. */
  readonly keep?: number;
  /** Makes a phase fail. `session.envelope` has the addresses; a rejected `data` phase leaves no mail. */
  readonly reject?: (phase: SmtpPhase, session: SMTPServerSession) => SmtpRejection | undefined;
  /** Offers STARTTLS, with a certificate nobody trusts. */
  readonly startTls?: boolean;
  /** Milliseconds to wait before answering a phase. */
  readonly delay?: (phase: SmtpPhase, session: SMTPServerSession) => number;
};

export type WaitOptions = {
  /** How many mails must have arrived. Default: 1. */
  readonly count?: number;
  readonly subject?: string | RegExp;
  /** Only mails later than this one count. */
  readonly after?: Mail | undefined;
  /** Default: 10 000. */
  readonly timeoutMs?: number;
};

export type MailCatcher = {
  readonly smtpUrl: string;
  readonly smtpPort: number;
  readonly webUrl: string;
  /** Oldest first; with an address only what went to it. */
  mails(to?: string): readonly Mail[];
  /**
   * The newest mail to an address, once as many as wanted have arrived.
   *
   * @throws Error listing what did arrive when the time is up.
   */
  waitFor(to: string, options?: WaitOptions): Promise<Mail>;
  clear(): void;
  /** Ends both servers at once, open conversations included. */
  stop(): Promise<void>;
};

/** Ours are a few kB; this bounds a mistake. */
const MAX_MAIL_BYTES = 10 * 1024 * 1024;

/** Starts the SMTP server and the web inbox. @throws PortTaken */
export async function startMailCatcher(options: MailCatcherOptions = {}): Promise<MailCatcher> {
  const store = await MailStore.open(options.dir, options.keep);
  const smtp = await onFreePort(options.smtpPort, async (port) => {
    const server = smtpServer(store, options);
    // Its events are also those of the connections, which a client may cut at any time.
    server.on('error', () => undefined);
    await listening(server.listen(port, '127.0.0.1'), port, 'SMTP');
    return server;
  });
  const host = options.webHost ?? '127.0.0.1';
  const web = await onFreePort(options.webPort, async (port) => {
    const server = createInbox(store);
    await listening(server.listen(port, host), port, 'mail inbox', 'INBOX_PORT');
    return server;
  });
  const smtpPort = portOf(smtp.server);
  return {
    smtpUrl: `smtp://127.0.0.1:${smtpPort}`,
    smtpPort,
    webUrl: `http://localhost:${portOf(web)}`,
    mails: (to) => store.list(to),
    waitFor: (to, wait = {}) => waitForMail(store, to, wait),
    clear: () => store.clear(),
    async stop() {
      const webClosed = new Promise((resolve) => web.close(resolve));
      web.closeAllConnections();
      await Promise.all([webClosed, new Promise<void>((resolve) => smtp.close(resolve))]);
    },
  };
}

function smtpServer(store: MailStore, options: MailCatcherOptions): SMTPServer {
  const answer = async (phase: SmtpPhase, session: SMTPServerSession): Promise<void> => {
    const wait = options.delay?.(phase, session) ?? 0;
    if (wait > 0) {
      await delay(wait);
    }
    const rejection = options.reject?.(phase, session);
    if (rejection !== undefined) {
      throw Object.assign(new Error(rejection.message), { responseCode: rejection.code });
    }
  };
  const replyTo = (outcome: Promise<void>, callback: (error?: Error | null) => void): void => {
    outcome.then(() => callback(), callback);
  };
  return new SMTPServer({
    // Its certificate is self-signed, and clients that see STARTTLS insist on a valid one. Any login will do.
    disabledCommands: options.startTls === true ? [] : ['STARTTLS'],
    authOptional: true,
    allowInsecureAuth: true,
    disableReverseLookup: true,
    logger: false,
    size: MAX_MAIL_BYTES,
    // stop() means now.
    closeTimeout: 1,
    onAuth: (auth, _session, callback) => callback(null, { user: auth.username ?? 'anyone' }),
    onConnect: (session, callback) => replyTo(answer('connect', session), callback),
    onMailFrom: (_address, session, callback) => replyTo(answer('mail', session), callback),
    onRcptTo: (_address, session, callback) => replyTo(answer('rcpt', session), callback),
    onData(stream, session, callback) {
      const receive = async (): Promise<void> => {
        const raw = await buffer(stream);
        await answer('data', session);
        if (stream.sizeExceeded) {
          throw Object.assign(new Error('message too big'), { responseCode: 552 });
        }
        const { mailFrom, rcptTo } = session.envelope;
        const from = mailFrom === false ? '' : mailFrom.address;
        await store.add({ from, to: rcptTo.map(({ address }) => address) }, raw);
      };
      replyTo(receive(), callback);
    },
  });
}

async function waitForMail(store: MailStore, to: string, options: WaitOptions): Promise<Mail> {
  const { count = 1, subject, after, timeoutMs = 10_000 } = options;
  const fits = (mail: Mail): boolean =>
    (after === undefined || mail.id > after.id) &&
    (subject === undefined || (typeof subject === 'string' ? mail.subject === subject : subject.test(mail.subject)));
  const { promise, resolve, reject } = Promise.withResolvers<Mail>();
  const look = (): void => {
    const found = store.list(to).filter(fits);
    const newest = found.at(-1);
    if (newest !== undefined && found.length >= count) {
      resolve(newest);
    }
  };
  const unwatch = store.watch(look);
  const timer = setTimeout(() => {
    const seen = store.list().map((mail) => `  ${mail.id} to ${mail.to.join(', ')}: ${mail.subject}`);
    reject(
      new Error(
        `No ${count} mail(s) to ${to} within ${timeoutMs} ms. In the inbox:\n${seen.join('\n') || '  nothing'}`,
      ),
    );
  }, timeoutMs);
  look();
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    unwatch();
  }
}

async function listening(server: Server, port: number, purpose: string, variable?: string): Promise<void> {
  try {
    await once(server, 'listening');
  } catch (error) {
    throw error instanceof Error && 'code' in error && error.code === 'EADDRINUSE'
      ? portTaken(port, purpose, variable)
      : error;
  }
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}
