/**
 * Mails the worker has given up on, and what operators do about them. Like every act of an operator each is recorded first
 * (ADR 11); ADR 19 says how the queue and the outbox stay in agreement.
 */
import { Problem } from '../problems.ts';
import type { AuditType } from '../store/audit.ts';
import type { FailedMail, MailQueue } from '../store/mail-queue.ts';
import type { Outbox } from '../store/outbox.ts';
import type { Audit } from './audit.ts';
import type { Act } from './operators.ts';

export type FailedMails = ReturnType<typeof createFailedMails>;

export interface FailedMailsOptions {
  queue: MailQueue;
  outbox: Outbox;
  audit: Audit;
  /** Has the relay look at the outbox now. */
  kick: () => void;
}

export function createFailedMails({ queue, outbox, audit, kick }: FailedMailsOptions) {
  /** @throws {Problem} `mail_unknown` when it has not failed. */
  async function find(id: string): Promise<FailedMail> {
    const mail = await queue.findFailed(id);
    if (!mail) throw new Problem('mail_unknown');
    return mail;
  }

  const record = (act: Act, type: AuditType, id: string, mail: FailedMail | undefined) =>
    audit.record({
      type,
      actor: { type: 'client', id: act.clientId },
      userId: mail?.userId ?? null,
      context: act.context,
      details: { mail_id: id, ...(mail && { mail: mail.name }) },
    });

  return {
    /** A page of them, those that failed last first. @param skip how many came before it. */
    list: queue.listFailed,
    find,

    /**
     * Tries a mail again, with all its attempts before it. One that is still owed and whose job is lost is published again; one that is
     * being tried already is left to it. So the call may be repeated.
     * @throws {Problem} `mail_unknown` for a mail nobody is owed: delivered, discarded, or replaced by a newer one.
     */
    async retry(act: Act, id: string): Promise<void> {
      const mail = await queue.findFailed(id);
      if (!(await outbox.owes(id))) {
        // What is left of a mail that was withdrawn while the queue was away.
        if (mail) await queue.takeOut(id);
        throw new Problem('mail_unknown');
      }
      await record(act, 'mail.retried', id, mail);
      if (await queue.retryFailed(id)) return;
      const [lost] = await queue.missing([id]);
      if (lost === undefined) return;
      await outbox.unpublish([lost]);
      kick();
    },

    /**
     * Gives a mail up for good: it is neither in the queue nor owed any more. May be repeated.
     * @throws {Problem} `mail_unknown` when it has not failed, or is being tried again at this moment.
     */
    async discard(act: Act, id: string): Promise<void> {
      await record(act, 'mail.discarded', id, await find(id));
      if (!(await outbox.discard(id, () => queue.takeOut(id)))) throw new Problem('mail_unknown');
    },
  };
}
