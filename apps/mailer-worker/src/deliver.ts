/** One mail job, from the queue to the mail server. The order of the phases is what keeps a mail from being lost, doubled or dead on arrival. */
import { InvalidMailJob, type MailJob, parseMailJob } from '@latchkey/shared/mail-jobs';
import type { KeyPurpose, MailKeys } from './mail-keys.ts';
import type { MailContent, Mails } from './mails.ts';
import type { SendLedger } from './send-ledger.ts';
import { type MailTransport, readSmtpFailure } from './smtp.ts';

/** A job as the queue hands it over. */
export interface IncomingJob {
  /** The id of the outbox row: the identity of the mail, the same on every retry. */
  readonly id: string;
  readonly name: string;
  readonly payload: unknown;
  /** Aborts the try, when the worker has to leave. */
  readonly signal: AbortSignal | undefined;
}

export type Phase = 'parse' | 'ledger' | 'mint' | 'render' | 'smtp' | 'record';

/** How a job ended well. `triedBefore`: an earlier try got as far as SMTP; unless the server refused that one, the mail may arrive twice. */
export interface Delivered {
  readonly outcome: 'accepted' | 'already_accepted';
  readonly triedBefore: boolean;
}

/** Why a try ended without a mail. The message and all fields are fit for logs and for the failed set. */
export class DeliveryFailed extends Error {
  override readonly name = 'DeliveryFailed';
  readonly phase: Phase;
  readonly permanent: boolean;
  readonly smtpCode: number | undefined;

  constructor(
    phase: Phase,
    reason: string,
    { permanent = false, smtpCode }: { permanent?: boolean; smtpCode?: number | undefined } = {},
  ) {
    super(`${phase}: ${reason}`);
    this.phase = phase;
    this.permanent = permanent;
    this.smtpCode = smtpCode;
  }
}

/** One plain mailbox. Stricter than RFC 5321: no quoted local part, no address literal, nothing that could end the address and begin another. */
const ONE_MAILBOX = /^[^\s\p{C}<>()[\]\\,;:"@]+@[^\s\p{C}<>()[\]\\,;:"@]+$/u;

/** What may stand before the `@` of a Message-ID (RFC 5322 `dot-atom`); outbox ids are UUIDs. */
const MAIL_ID = /^[\w-]{1,64}$/;

export interface DeliveryParts {
  readonly ledger: SendLedger;
  readonly mailKeys: MailKeys;
  readonly mails: Mails;
  readonly transport: MailTransport;
  readonly from: string;
  /** `PUBLIC_URL`: its host is the right side of every Message-ID. */
  readonly publicUrl: string;
}

/** A mail as it will be sent, and the key made for it. */
interface Composed {
  readonly content: MailContent;
  readonly key?: { readonly purpose: KeyPurpose; readonly key: string };
}

/** @returns the function that delivers one job; it throws {@link DeliveryFailed} and nothing else. */
export function createDelivery(parts: DeliveryParts): (job: IncomingJob) => Promise<Delivered> {
  const { ledger, mailKeys, mails, transport, from } = parts;
  const messageHost = new URL(parts.publicUrl).hostname;
  const underway = new Map<string, Promise<Delivered>>();

  function parse(job: IncomingJob): MailJob {
    if (!MAIL_ID.test(job.id)) throw new InvalidMailJob('the job id is not a mail id');
    const parsed = parseMailJob(job.name, job.payload);
    if (!ONE_MAILBOX.test(parsed.payload.to)) throw new InvalidMailJob(`${parsed.name}/to: not one plain address`);
    return parsed;
  }

  /** What the mail says and, if it has a link, the key in it: made now. */
  async function compose(job: MailJob): Promise<Composed> {
    const { locale, user_id: userId } = job.payload;
    const plain = async (mail: (locale: string) => MailContent): Promise<Composed> => ({
      content: await during('render', async () => mail(locale)),
    });
    const linked = async (
      purpose: KeyPurpose,
      attempt: number,
      mail: (locale: string, key: string) => MailContent,
    ): Promise<Composed> => {
      const key = await during('mint', () => mailKeys.mint(purpose, userId, attempt));
      return { key: { purpose, key }, content: await during('render', async () => mail(locale, key)) };
    };
    switch (job.name) {
      case 'activation':
        return linked('activationKey', job.payload.attempt, mails.activation);
      case 'account_exists':
        return plain(mails.accountExists);
      case 'password_reset':
        return linked('passwordResetKey', job.payload.attempt, mails.passwordReset);
      case 'password_changed':
        return plain(mails.passwordChanged);
      case 'email_change': {
        const { attempt } = job.payload;
        return attempt === undefined
          ? plain(mails.emailChangeNotice)
          : linked('emailChangeKey', attempt, mails.emailChange);
      }
      case 'email_changed':
        return plain(mails.emailChanged);
    }
  }

  async function send(id: string, to: string, content: MailContent, signal?: AbortSignal): Promise<void> {
    await transport.sendMail({
      from,
      // An object is taken as it is: a string would be parsed, and could name more than one recipient.
      to: { name: '', address: to },
      subject: content.subject,
      text: content.text,
      html: content.html,
      messageId: `<${id}@${messageHost}>`,
      date: new Date(),
      headers: {
        // RFC 3834: no vacation notice answers it.
        'Auto-Submitted': 'auto-generated',
        'X-Auto-Response-Suppress': 'All',
        'Content-Language': content.language,
      },
      disableFileAccess: true,
      disableUrlAccess: true,
      signal,
    });
  }

  async function deliver(job: IncomingJob): Promise<Delivered> {
    const mail = await during('parse', async () => parse(job));
    if (await during('ledger', () => ledger.isAccepted(job.id))) return reportAgain(job.id);

    const { content, key } = await compose(mail);
    const before = await during('ledger', () => ledger.noteSending(job.id));
    if (before === 'accepted') {
      // Another worker sent it while this one was held up; the key just made is in no mail.
      await forget(key);
      return reportAgain(job.id);
    }

    try {
      await send(job.id, mail.payload.to, content, job.signal);
    } catch (error) {
      const { permanent, refused, code, reason } = readSmtpFailure(error);
      if (refused) await forget(key);
      throw new DeliveryFailed('smtp', reason, { permanent, smtpCode: code });
    }

    await during('record', () => ledger.recordAccepted(job.id));
    return { outcome: 'accepted', triedBefore: before === 'sending' };
  }

  async function reportAgain(id: string): Promise<Delivered> {
    await during('record', () => ledger.recordAccepted(id));
    return { outcome: 'already_accepted', triedBefore: false };
  }

  /** Best effort: a key nobody has seen opens nothing, and expires. */
  async function forget(minted: Composed['key']): Promise<void> {
    if (minted !== undefined) await mailKeys.forget(minted.purpose, minted.key).catch(() => undefined);
  }

  return (job) => {
    // A lock that ran out while Redis was away gives the same job to this worker a second time, with the first try still in SMTP.
    const running = underway.get(job.id);
    if (running !== undefined) return running;
    const delivery = deliver(job).finally(() => underway.delete(job.id));
    underway.set(job.id, delivery);
    return delivery;
  };
}

/** Runs one phase; what it throws becomes a {@link DeliveryFailed} that names the phase. */
async function during<T>(phase: Phase, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    const reason = error instanceof Error ? error.message : 'unknown error';
    throw new DeliveryFailed(phase, reason, { permanent: error instanceof InvalidMailJob });
  }
}
