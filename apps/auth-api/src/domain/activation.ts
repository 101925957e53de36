/** The life of an activation key, as whoever holds one sees it (ADR 4). */
import type { MailKeyStore } from '../store/mail-keys.ts';
import type { UserStore } from '../store/users.ts';
import type { DeadKey } from './mailed-key.ts';
import type { RequestContext } from './request-context.ts';

/** Why an activation key does nothing. `superseded`: a newer mail replaced it. */
export type DeadActivationKey = DeadKey | { status: 'superseded' };

/** One that not even a renewal brings back. */
type LostKey = { status: 'used' | 'unknown' | 'superseded' };

export type KeyState =
  | { status: 'pending'; worksFor: number; expiresAt: Date; email: string; locale: string }
  | { status: 'expired'; locale: string }
  | LostKey;

/** A registration that waits, as the key that counts for it sees it. */
interface Waiting {
  worksFor: number;
  expiresAt: Date;
  userId: string;
  attempt: number;
  email: string;
  locale: string;
}

type FullState = ({ status: 'pending' | 'expired' } & Waiting) | LostKey;

export type Activation = ReturnType<typeof createActivation>;

export interface ActivationOptions {
  keys: MailKeyStore;
  users: UserStore;
  /** Throws `rate_limited` when the address has had its share of mail. */
  allowMail: (email: string) => Promise<void>;
  /** Told after a commit that owes a mail, or owes one no more. */
  onMailOwed: () => void;
}

export function createActivation({ keys, users, allowMail, onMailOwed }: ActivationOptions) {
  async function look(key: string): Promise<FullState> {
    const record = await keys.find(key);
    const user = record && (await users.activationState(record.userId));
    // While its door is closed (a suspension, a cut-off at an instant to come) nothing about the account changes.
    if (!record || !user || user.closed) return { status: 'unknown' };
    if (user.status !== 'pending') return { status: 'used' };
    // A registration whose address meanwhile has an account can never be activated: for whoever clicks, the account is there.
    if (await users.hasAccount(user.emailKey)) return { status: 'used' };
    if (user.activationAttempt !== record.attempt) return { status: 'superseded' };
    const { userId, attempt, worksFor, expiresAt } = record;
    const { email, locale } = user;
    return { status: worksFor > 0 ? 'pending' : 'expired', worksFor, expiresAt, userId, attempt, email, locale };
  }

  return {
    /** Looks; changes nothing. */
    async inspect(key: string): Promise<KeyState> {
      const state = await look(key);
      if (state.status === 'pending') {
        const { worksFor, expiresAt, email, locale } = state;
        return { status: 'pending', worksFor, expiresAt, email, locale };
      }
      return state.status === 'expired' ? { status: 'expired', locale: state.locale } : { status: state.status };
    },

    /** Spends the key: exactly one caller gets `activated`. */
    async activate(
      key: string,
      context: RequestContext,
    ): Promise<{ status: 'activated'; user: { id: string; email: string } } | DeadActivationKey> {
      const state = await look(key);
      if (state.status !== 'pending') return { status: state.status };
      const user = await users.activate(state.userId, state.attempt, context);
      if (user) {
        onMailOwed();
        return { status: 'activated', user };
      }
      // Somebody was faster: say what they did.
      const now = await look(key);
      return { status: now.status === 'pending' || now.status === 'expired' ? 'used' : now.status };
    },

    /** Mails a fresh key in place of a live or expired one, to the address the registration gave. */
    async renew(key: string, context: RequestContext): Promise<{ status: 'renewed' } | LostKey> {
      const state = await look(key);
      if (state.status !== 'pending' && state.status !== 'expired') return { status: state.status };
      await allowMail(state.email);
      if (!(await users.renewActivation(state.userId, state.attempt, context))) return { status: 'superseded' };
      onMailOwed();
      return { status: 'renewed' };
    },
  };
}
