/** Another address for an account, once the mailbox behind it has said yes. */
import type { AccountChanges } from '../store/account-changes.ts';
import type { MailKeyStore } from '../store/mail-keys.ts';
import { type DeadKey, keyStatus } from './mailed-key.ts';
import type { RequestContext } from './request-context.ts';

export type EmailChangeState =
  | { status: 'pending'; email: string; locale: string; worksFor: number; expiresAt: Date }
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
  async function look(key: string) {
    const record = await keys.find(key);
    const user = record && (await changes.emailChangeState(record.userId));
    if (!record || !user) return { status: 'unknown' } as const;
    const { email: former, newEmail, locale, closed } = user;
    const status = keyStatus(record, user);
    if (status !== 'pending') return { status, locale };
    // A closed account stays where it is: whoever moves it to another mailbox would have the next reset mailed there.
    return newEmail === null || closed
      ? ({ status: 'unknown' } as const)
      : { status, ...record, former, email: newEmail, locale };
  }

  return {
    /** Looks; changes nothing. */
    async inspect(key: string): Promise<EmailChangeState> {
      const state = await look(key);
      if (state.status === 'pending') {
        const { status, email, locale, worksFor, expiresAt } = state;
        return { status, email, locale, worksFor, expiresAt };
      }
      return state.status === 'expired' ? { status: 'expired', locale: state.locale } : { status: state.status };
    },

    /** Spends the key: exactly one caller gets `changed`. */
    async confirm(
      key: string,
      context: RequestContext,
    ): Promise<{ status: 'changed'; user: { id: string; email: string } } | DeadKey> {
      const state = await look(key);
      if (state.status !== 'pending') return { status: state.status };
      const { userId, former, email } = state;
      if (!(await changes.changeEmail(state, { former, newEmail: email }, context))) {
        // Somebody was faster, with this key or to this address: say what they did.
        const after = await look(key);
        return { status: after.status === 'used' ? 'used' : 'unknown' };
      }
      onMailOwed();
      return { status: 'changed', user: { id: userId, email } };
    },
  };
}
