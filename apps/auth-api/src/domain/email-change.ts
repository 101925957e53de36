/** Another address for an account, once the mailbox behind it has said yes. */
import type { AccountChanges } from '../store/account-changes.ts';
import type { MailKeyStore } from '../store/mail-keys.ts';
import { type SpentKey, worthOf } from './mailed-key.ts';
import type { RequestContext } from './request-context.ts';

export type EmailChangeState =
  | { status: 'pending'; email: string; locale: string; expiresAt: Date }
  | { status: 'expired'; locale: string }
  | { status: 'used' | 'unknown' };

export type EmailChange = ReturnType<typeof createEmailChange>;

export interface EmailChangeOptions {
  keys: MailKeyStore;
  changes: AccountChanges;
  /** Told after a commit that owes a mail. */
  onMailOwed: () => void;
}

export function createEmailChange({ keys, changes, onMailOwed }: EmailChangeOptions) {
  /** @param now milliseconds */
  async function look(key: string, now: number) {
    const record = await keys.find(key);
    const user = record && (await changes.emailChangeState(record.userId));
    if (!record || !user) return { status: 'unknown' } as const;
    const { newEmail, locale } = user;
    const status = worthOf(record, { attempt: user.emailChangeAttempt, spent: user.emailChangeSpent });
    if (status !== 'pending') return { status, locale };
    // While the account is suspended nothing about it changes.
    const suspended = user.suspendedUntil !== null && user.suspendedUntil.getTime() > now;
    return newEmail === null || suspended
      ? ({ status: 'unknown' } as const)
      : { status, ...record, email: newEmail, locale };
  }

  return {
    /** Looks; changes nothing. @param now milliseconds, for the instant it expires at. */
    async inspect(key: string, now: number): Promise<EmailChangeState> {
      const state = await look(key, now);
      if (state.status === 'pending') {
        const { status, email, locale, worksFor } = state;
        return { status, email, locale, expiresAt: new Date(now + worksFor) };
      }
      return state.status === 'expired' ? { status: 'expired', locale: state.locale } : { status: state.status };
    },

    /** Spends the key: exactly one caller gets `changed`. @param now milliseconds */
    async confirm(
      key: string,
      now: number,
      context: RequestContext,
    ): Promise<{ status: 'changed'; user: { id: string; email: string } } | SpentKey> {
      const state = await look(key, now);
      if (state.status !== 'pending') return { status: state.status };
      const { userId, attempt, email } = state;
      if (!(await changes.changeEmail(userId, attempt, email, context))) {
        // Somebody was faster, with this key or to this address: say what they did.
        const after = await look(key, now);
        return { status: after.status === 'used' ? 'used' : 'unknown' };
      }
      onMailOwed();
      return { status: 'changed', user: { id: userId, email } };
    },
  };
}
