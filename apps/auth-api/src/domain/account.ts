/** What an account's owner changes with the password in hand: the password, the profile, the end of it all. */
import { type InputError, Problem } from '../problems.ts';
import type { AccountChanges, Credentials, ProfileChange } from '../store/account-changes.ts';
import type { UserProfile, WithdrawMails } from '../store/users.ts';
import type { Audit } from './audit.ts';
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
  audit: Audit;
  /** Counts a try of the account's password; throws `rate_limited`. */
  allowPassword: (userId: string) => Promise<void>;
  /** Told when it was the right one. */
  onPasswordRight: (userId: string) => Promise<void>;
  /** Throws `rate_limited` when the address has had its share of mail. */
  allowMail: (email: string) => Promise<void>;
  /** Told after a commit that owes a mail. */
  onMailOwed: () => void;
  withdrawMails: WithdrawMails;
}

/** The user who calls, and the session they call with. */
export interface Owner {
  userId: string;
  sessionId: string;
}

export function createAccount(options: AccountOptions) {
  const { changes, passwords, sessions, revocation, audit, withdrawMails } = options;

  /**
   * Makes a change for a caller that knows the account's password.
   * @param change resolves to false when the hash the password was compared with was replaced meanwhile: then everything begins anew.
   * @throws {Problem} `rate_limited`, `invalid_credentials`; `invalid_token` when the account is gone.
   */
  async function withPassword(
    userId: string,
    password: string,
    context: RequestContext,
    change: (user: Credentials) => Promise<boolean>,
  ): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const user = await changes.credentials(userId);
      if (!user) throw new Problem('invalid_token');
      if (attempt === 0) await options.allowPassword(userId);
      const { matches } = await passwords.verify(password, user.passwordHash);
      if (!matches) {
        audit.noteOwn('user.password_refused', userId, context);
        throw wrongPassword();
      }
      await options.onPasswordRight(userId);
      if (await change(user)) return;
    }
    throw wrongPassword();
  }

  return {
    /**
     * Another password; every other session of the user ends, and a notice is mailed.
     * @throws {Problem} `invalid_credentials`, `password_too_weak`, `rate_limited`, `overloaded`.
     */
    async changePassword(
      { userId, sessionId }: Owner,
      { current, wanted }: { current: string; wanted: string },
      context: RequestContext,
    ): Promise<void> {
      await withPassword(userId, current, context, async ({ email, displayName, passwordHash: present }) => {
        const hash = await passwords.hash(wanted, knownToOthers(email, displayName), '/new_password');
        const endOthers = () => sessions.endOthers(userId, sessionId);
        return changes.changePassword(userId, { present, wanted: hash }, context, endOthers);
      });
      options.onMailOwed();
    },

    /**
     * Mails the link that makes `newEmail` the account's address; only its mailbox learns whether it has an account of its own.
     * @throws {Problem} `invalid_credentials`, `rate_limited`, `overloaded`.
     */
    async requestEmailChange(
      userId: string,
      current: string,
      newEmail: string,
      context: RequestContext,
    ): Promise<void> {
      await withPassword(userId, current, context, async ({ email, passwordHash }) => {
        await options.allowMail(newEmail);
        await options.allowMail(email);
        return changes.startEmailChange(userId, passwordHash, newEmail, context);
      });
      options.onMailOwed();
    },

    /** @throws {Problem} `invalid_token` when the account is gone. */
    async updateProfile(userId: string, change: ProfileChange, context: RequestContext): Promise<UserProfile> {
      const user = await changes.updateProfile(userId, change, context);
      if (!user) throw new Problem('invalid_token');
      return user;
    },

    /**
     * The end of the account: every token is refused, and nothing is left that tells of the person.
     * @throws {Problem} `invalid_credentials`, `rate_limited`, `overloaded`.
     */
    async delete(userId: string, current: string, context: RequestContext): Promise<void> {
      const inRedis = { endSessions: () => revocation.endAll(userId), withdrawMails };
      await withPassword(userId, current, context, ({ passwordHash }) =>
        changes.delete(userId, passwordHash, context, inRedis),
      );
    },
  };
}

/** Tries of a change: it begins anew when the hash was replaced meanwhile, by a login that rehashed the same password. */
const ATTEMPTS = 3;
const WRONG: InputError = { pointer: '/current_password', detail: 'is not the password of the account' };
const wrongPassword = () => new Problem('invalid_credentials', { errors: [WRONG] });
