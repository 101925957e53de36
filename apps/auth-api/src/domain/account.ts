/** What an account's owner changes with the password in hand: the password, the profile, the end of it all. */
import { type InputError, Problem } from '../problems.ts';
import type { AccountChanges, Credentials, ProfileChange } from '../store/account-changes.ts';
import type { UserProfile } from '../store/users.ts';
import { knownToOthers, type Passwords } from './passwords.ts';
import type { RequestContext } from './request-context.ts';
import type { RevocationService } from './revocation.ts';
import type { Sessions } from './sessions.ts';

export type Account = ReturnType<typeof createAccount>;

export interface AccountOptions {
  changes: AccountChanges;
  passwords: Passwords;
  sessions: Sessions;
  revocation: RevocationService;
  /** Counts a try of the account's password; throws `rate_limited`. */
  allowPassword: (email: string) => Promise<void>;
  /** Told when it was the right one. */
  onPasswordRight: (email: string) => Promise<void>;
  /** Throws `rate_limited` when the address has had its share of mail. */
  allowMail: (email: string) => Promise<void>;
  /** Told after a commit that owes a mail. */
  onMailOwed: () => void;
  /** Takes mails nobody is owed any more out of the queue, as far as it can. */
  withdrawMails: (ids: string[]) => Promise<void>;
}

/** Whose session calls. */
export interface Owner {
  userId: string;
  sessionId: string;
}

export function createAccount(options: AccountOptions) {
  const { changes, passwords, sessions, revocation } = options;

  /** @throws {Problem} `rate_limited`, `invalid_credentials`; `invalid_token` when the account is gone. */
  async function withPassword(userId: string, password: string): Promise<Credentials> {
    const user = await changes.credentials(userId);
    if (!user) throw new Problem('invalid_token');
    await options.allowPassword(user.email);
    if (!(await passwords.verify(password, user.passwordHash))) throw wrongPassword();
    await options.onPasswordRight(user.email);
    return user;
  }

  return {
    /**
     * Another password; every other session of the user ends, and a notice is mailed.
     * @param now milliseconds
     * @throws {Problem} `invalid_credentials`, `password_too_weak`, `rate_limited`, `overloaded`.
     */
    async changePassword(
      { userId, sessionId }: Owner,
      { current, wanted }: { current: string; wanted: string },
      now: number,
      context: RequestContext,
    ): Promise<void> {
      const user = await withPassword(userId, current);
      const hash = await passwords.hash(wanted, knownToOthers(user.email, user.displayName), '/new_password');
      // Before: while sessions cannot be ended, nothing may change. After: a login with the old password may have come between.
      await sessions.endOthers(userId, sessionId, now);
      if (!(await changes.changePassword(userId, user.passwordHash, hash, context))) throw wrongPassword();
      options.onMailOwed();
      await sessions.endOthers(userId, sessionId, now);
    },

    /**
     * Mails the link that makes `newEmail` the account's address; nothing tells whether it has an account of its own but its mailbox.
     * @throws {Problem} `invalid_credentials`, `rate_limited`, `overloaded`.
     */
    async requestEmailChange(
      userId: string,
      current: string,
      newEmail: string,
      context: RequestContext,
    ): Promise<void> {
      const user = await withPassword(userId, current);
      await options.allowMail(newEmail);
      await options.allowMail(user.email);
      if (!(await changes.startEmailChange(userId, user.passwordHash, newEmail, context))) throw wrongPassword();
      options.onMailOwed();
    },

    /** @throws {Problem} `invalid_token` when the account is gone. */
    async updateProfile(userId: string, change: ProfileChange): Promise<UserProfile> {
      const user = await changes.updateProfile(userId, change);
      if (!user) throw new Problem('invalid_token');
      return user;
    },

    /**
     * The end of the account: every token is refused, and nothing is left that tells of the person.
     * @param now milliseconds
     * @throws {Problem} `invalid_credentials`, `rate_limited`, `overloaded`.
     */
    async delete(userId: string, current: string, now: number, context: RequestContext): Promise<void> {
      const user = await withPassword(userId, current);
      // Before and after, as for the password: nobody could log in again to repeat what failed.
      await revocation.cutOff(userId, undefined, now);
      const mails = await changes.delete(userId, user.passwordHash, context);
      if (mails === undefined) throw wrongPassword();
      await revocation.cutOff(userId, undefined, now);
      await options.withdrawMails(mails);
    },
  };
}

const WRONG: InputError = { pointer: '/current_password', detail: 'is not the password of the account' };
const wrongPassword = () => new Problem('invalid_credentials', { errors: [WRONG] });
