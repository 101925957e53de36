/** A new password by mail: for whoever holds the mailbox of an account. */
import type { AccountChanges } from '../store/account-changes.ts';
import type { MailKeyStore } from '../store/mail-keys.ts';
import { inEqualTime } from './equal-time.ts';
import { type DeadKey, keyStatus } from './mailed-key.ts';
import { knownToOthers, type Passwords } from './passwords.ts';
import type { RequestContext } from './request-context.ts';
import type { RevocationService } from './revocation.ts';

export type ResetState =
  | { status: 'pending'; worksFor: number; expiresAt: Date; email: string; locale: string }
  | { status: 'expired'; locale: string }
  | { status: 'used' | 'unknown' };

export type PasswordReset = ReturnType<typeof createPasswordReset>;

export interface PasswordResetOptions {
  keys: MailKeyStore;
  changes: AccountChanges;
  passwords: Passwords;
  revocation: RevocationService;
  /** Throws `rate_limited` when the address has had its share of mail. */
  allowMail: (email: string) => Promise<void>;
  /** Told after a commit that owes a mail. */
  onMailOwed: () => void;
}

export function createPasswordReset(options: PasswordResetOptions) {
  const { keys, changes, passwords, revocation, allowMail, onMailOwed } = options;

  async function look(key: string) {
    const record = await keys.find(key);
    const user = record && (await changes.passwordResetState(record.userId));
    if (!record || !user) return { status: 'unknown' } as const;
    const status = keyStatus(record, { attempt: user.passwordResetAttempt, spent: user.passwordResetSpent });
    return { status, record, user };
  }

  return {
    /** Mails a link to the account of an address, if there is one; neither answer nor time tells. @throws {Problem} `rate_limited`. */
    async request(email: string, context: RequestContext): Promise<void> {
      await allowMail(email);
      if (await inEqualTime(changes.startPasswordReset(email, context))) onMailOwed();
    },

    /** Looks; changes nothing. */
    async inspect(key: string): Promise<ResetState> {
      const { status, record, user } = await look(key);
      if (status === 'pending') {
        return {
          status,
          worksFor: record.worksFor,
          expiresAt: record.expiresAt,
          email: user.email,
          locale: user.locale,
        };
      }
      return status === 'expired' ? { status, locale: user.locale } : { status };
    },

    /**
     * Sets the password and ends every session: of any number of callers with a key one does. A password that is refused leaves the key good.
     * @throws {Problem} `password_too_weak`, `overloaded`.
     */
    async reset(key: string, newPassword: string, context: RequestContext): Promise<{ status: 'reset' } | DeadKey> {
      const { status, record, user } = await look(key);
      if (status !== 'pending') return { status };
      const hash = await passwords.hash(newPassword, knownToOthers(user.email, user.displayName), '/new_password');
      const { userId } = record;
      // While sessions cannot be ended the password stays and the key is good.
      if (!(await changes.resetPassword(record, hash, context, () => revocation.endAll(userId)))) {
        // Somebody was faster: say what they did.
        const after = await look(key);
        return { status: after.status === 'used' ? 'used' : 'unknown' };
      }
      onMailOwed();
      return { status: 'reset' };
    },
  };
}
