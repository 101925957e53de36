/** One mail job, from the queue to the mail server. The order of the phases is what keeps a mail from being lost, doubled or dead on arrival. */
import { InvalidMailJob, type MailJob, parseMailJob } from '@latchkey/shared/mail-jobs';
import type { Span, Tracing } from '@latchkey/shared/tracing';
import { isUuid } from '@latchkey/shared/uuid';
import type { ComposedMail, Composer } from './composer.ts';
import type { KeyPurpose, MailKey, MailKeys } from './mail-keys.ts';
import type { Mails } from './mails.ts';
import type { Ended, SendLedger } from './send-ledger.ts';
import { type MailTransport, readSmtpFailure, type SmtpFailure } from './smtp.ts';

/**
 * How far a try is: nothing is done with a mail server yet; waits for an earlier try of the same mail; waits for a connection and login;
 * the mail was offered; its data is begun.
 */
export type Step = 'prepare' | 'join' | 'connect' | 'offer' | 'data';

/** Why a try is aborted that waits for a mail server which answers nobody: as if it had found none. */
export const NO_ANSWER = new Error('no answer');

/** A job as the queue hands it over. */
export interface IncomingJob {
  /** The id of the outbox row: the identity of the mail, the same on every retry. */
  readonly id: string;
  readonly name: string;
  readonly payload: unknown;
  /** Aborts the try, when the worker has to leave. */
  readonly signal: AbortSignal | undefined;
  /** Told as it gets there. */
  readonly reached?: (step: Step) => void;
  /** Of the try's span, where traces are on. */
  readonly traceparent?: string | undefined;
}

export type Phase = 'parse' | 'ledger' | 'mint' | 'render' | 'smtp' | 'record';

/** How a try ended well. */
export type Delivered =
  /** `triedBefore`: the data of an earlier try was begun and nobody knows how that ended: the mail may arrive twice. */
  | { readonly outcome: 'accepted'; readonly triedBefore: boolean }
  | { readonly outcome: 'already_accepted' }
  /** Its link is dead: nothing was sent. */
  | { readonly outcome: 'superseded' }
  /** Too many mails to this domain or recipient right now: nothing was sent. @property wait milliseconds. */
  | { readonly outcome: 'paced'; readonly wait: number };

/** Why a try ended without a mail. The message and all fields are fit for logs and for the failed set. */
export class DeliveryFailed extends Error {
  override readonly name = 'DeliveryFailed';
  readonly phase: Phase;
  /** The message without the phase. */
  readonly reason: string;
  readonly permanent: boolean;
  /** No mail server could be reached or logged in to: the mail is not to blame, and no other can go out now. */
  readonly serverAway: boolean;
  readonly smtpCode: number | undefined;
  /** An earlier try ended so, and its job learns it now. */
  readonly remembered: boolean;

  constructor(
    phase: Phase,
    reason: string,
    more: { permanent?: boolean; serverAway?: boolean; smtpCode?: number | undefined; remembered?: boolean } = {},
  ) {
    super(`${phase}: ${reason}`);
    this.phase = phase;
    this.reason = reason;
    this.permanent = more.permanent ?? false;
    this.serverAway = more.serverAway ?? false;
    this.smtpCode = more.smtpCode;
    this.remembered = more.remembered ?? false;
  }
}

/** One plain mailbox. Stricter than RFC 5321: no quoted local part, no address literal, nothing that could end the address and begin another. */
const ONE_MAILBOX = /^[^\s\p{C}<>()[\]\\,;:"@]+@[^\s\p{C}<>()[\]\\,;:"@]+$/u;

export interface DeliveryParts {
  readonly ledger: SendLedger;
  readonly mailKeys: MailKeys;
  readonly compose: Composer;
  readonly transport: MailTransport;
  /** Undefined: traces are off. */
  readonly tracing?: Tracing | undefined;
}

/** A mail as it will be sent, and the key made for it. */
interface Written {
  readonly mail: ComposedMail;
  readonly key?: MailKey;
}

/** How far a conversation with the mail server got. */
interface Conversation {
  /** It has heard of the mail. */
  offered: boolean;
  dataBegun: boolean;
  /** What the ledger knew when the data was about to begin. */
  before: 'sending' | Ended | undefined;
  failure: SmtpFailure | undefined;
}

/** Ends the span of a conversation; for SMTP there are no conventions. */
function endSpan(span: Span, { offered, dataBegun, before, failure }: Conversation): void {
  const stopped = failure !== undefined && !dataBegun ? before : undefined;
  const failed = stopped === undefined ? failure : undefined;
  span.end(
    {
      'latchkey.smtp.phase': dataBegun ? 'data' : offered ? 'envelope' : 'connect',
      'latchkey.smtp.outcome': stopped ?? (failed ? (failed.refused ? 'refused' : 'broken') : 'accepted'),
      ...(failed?.code !== undefined && { 'latchkey.smtp.code': failed.code }),
    },
    failed && String(failed.code ?? 'no_answer'),
  );
}

/** @returns the function that delivers one job; it throws {@link DeliveryFailed} and nothing else. */
export function createDelivery(parts: DeliveryParts): (job: IncomingJob) => Promise<Delivered> {
  const { ledger, mailKeys, compose, transport, tracing } = parts;
  const underway = new Map<string, Promise<Delivered>>();

  function parse(job: IncomingJob): MailJob {
    // An outbox id; it is also what stands before the `@` of the Message-ID.
    if (!isUuid(job.id)) throw new InvalidMailJob('the job id is not a mail id');
    const parsed = parseMailJob(job.name, job.payload);
    if (!ONE_MAILBOX.test(parsed.payload.to)) throw new InvalidMailJob(`${parsed.name}/to: not one plain address`);
    return parsed;
  }

  /** The mail and, if it has a link, the key in it: made now. */
  async function write(id: string, job: MailJob): Promise<Written> {
    const { locale, to, user_id: userId } = job.payload;
    const composed = (kind: keyof Mails, key?: string) =>
      during('render', () => compose(kind, locale, { id, to, date: new Date(), key }));
    const plain = async (kind: keyof Mails): Promise<Written> => ({ mail: await composed(kind) });
    const linked = async (kind: keyof Mails, purpose: KeyPurpose, attempt: number): Promise<Written> => {
      const key = await during('mint', () => mailKeys.mint(purpose, userId, attempt));
      return { key, mail: await composed(kind, key.key) };
    };
    switch (job.name) {
      case 'activation':
        return job.payload.attempt === undefined
          ? plain('severalRegistrations')
          : linked('activation', 'activationKey', job.payload.attempt);
      case 'account_exists':
        return plain('accountExists');
      case 'password_reset':
        return linked('passwordReset', 'passwordResetKey', job.payload.attempt);
      case 'password_changed':
        return plain('passwordChanged');
      case 'email_change': {
        const { attempt } = job.payload;
        return attempt === undefined ? plain('emailChangeNotice') : linked('emailChange', 'emailChangeKey', attempt);
      }
      case 'email_changed':
        return plain('emailChanged');
    }
  }

  async function deliver(job: IncomingJob): Promise<Delivered> {
    const parsed = await during('parse', async () => parse(job));
    const { to } = parsed.payload;
    const verdict = await during('ledger', () => ledger.take(job.id, to));
    if (typeof verdict === 'number') return { outcome: 'paced', wait: verdict };
    if (verdict !== 'go') return ended(job.id, verdict);

    const { mail, key } = await write(job.id, parsed);
    const conversation = await converse(job, mail, to, key);
    const { before, dataBegun, failure } = conversation;
    // The key just made is in no mail.
    if (failure !== undefined && (failure.refused || !dataBegun)) await forget(key);
    // Another worker sent it while this one was held up, or its link died just now.
    if (before === 'accepted' || before === 'withdrawn') return ended(job.id, before);
    if (failure !== undefined) throw await failed(job, conversation, failure);

    await during('record', () => ledger.recordAccepted(job.id));
    return { outcome: 'accepted', triedBefore: before === 'sending' };
  }

  /** Offers the mail to the mail server; its data goes out only if the ledger does not know of an end. */
  async function converse(
    { id, traceparent, reached, signal }: IncomingJob,
    mail: ComposedMail,
    to: string,
    key: Written['key'],
  ): Promise<Conversation> {
    const seen: Conversation = { offered: false, dataBegun: false, before: undefined, failure: undefined };
    const span = tracing?.begin('smtp', 'CLIENT', traceparent, { 'network.protocol.name': 'smtp' });
    reached?.('connect');
    try {
      const turn = {
        begins() {
          seen.offered = true;
          reached?.('offer');
        },
        async beforeData() {
          reached?.('data');
          await key?.restart();
          seen.before = await ledger.noteSending(id);
          if (seen.before === 'accepted' || seen.before === 'withdrawn') throw new Error(`the mail is ${seen.before}`);
          seen.dataBegun = true;
        },
      };
      await transport.send(mail, to, turn, signal);
    } catch (error) {
      seen.failure = readSmtpFailure(error);
    }
    if (span) endSpan(span, seen);
    return seen;
  }

  async function failed(
    { id, signal }: IncomingJob,
    { offered, dataBegun, before }: Conversation,
    { permanent, refused, code, reason }: SmtpFailure,
  ): Promise<DeliveryFailed> {
    // Only this try's own: what an earlier one left says that the mail may have gone out.
    if (refused && dataBegun && before !== 'sending') await during('ledger', () => ledger.forgetSending(id));
    const unanswered = !refused && signal?.reason === NO_ANSWER;
    const serverAway = unanswered || (!offered && !permanent && signal?.aborted !== true);
    return new DeliveryFailed('smtp', unanswered ? NO_ANSWER.message : reason, {
      permanent,
      serverAway,
      smtpCode: code,
    });
  }

  async function ended(id: string, how: Ended): Promise<Delivered> {
    if (how === 'withdrawn') return { outcome: 'superseded' };
    await during('record', () => ledger.recordAccepted(id));
    return { outcome: 'already_accepted' };
  }

  /** Best effort: a key nobody has seen opens nothing, and expires. */
  async function forget(minted: Written['key']): Promise<void> {
    await minted?.forget().catch(() => undefined);
  }

  return (job) => {
    // A lock that ran out while Redis was away gives the same job to this worker a second time, with the first try still in SMTP.
    const running = underway.get(job.id);
    if (running !== undefined) {
      job.reached?.('join');
      return running;
    }
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
    if (error instanceof DeliveryFailed) throw error;
    const reason = error instanceof Error ? error.message : 'unknown error';
    throw new DeliveryFailed(phase, reason, { permanent: error instanceof InvalidMailJob && !error.newer });
  }
}
