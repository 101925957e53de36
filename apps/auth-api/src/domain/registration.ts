/** Registering, and asking for the link again. Neither tells whether an address is known: not by the answer, not by its time. */
import type { Registration, UserStore } from '../store/users.ts';
import { inEqualTime } from './equal-time.ts';
import { knownToOthers, type Passwords } from './passwords.ts';
import type { RequestContext } from './request-context.ts';

export type RegistrationService = ReturnType<typeof createRegistration>;

export interface RegistrationOptions {
  users: UserStore;
  passwords: Passwords;
  /** Throws `rate_limited` when the address has had its share of mail. */
  allowMail: (email: string) => Promise<void>;
  /** Told after a commit that owes a mail. */
  onMailOwed: () => void;
}

export function createRegistration({ users, passwords, allowMail, onMailOwed }: RegistrationOptions) {
  return {
    /**
     * When it returns, registration and mail are committed together; nothing else (Redis, queue, worker, SMTP) has to be up. Its time tells
     * nothing: hashing dominates, and every outcome writes one mail.
     * @throws {Problem} `password_too_weak`, `rate_limited`, `overloaded`.
     */
    async register(
      { password, ...person }: Omit<Registration, 'passwordHash'> & { password: string },
      context: RequestContext,
    ): Promise<void> {
      await allowMail(person.email);
      const known = knownToOthers(person.email, person.displayName);
      await users.register({ ...person, passwordHash: await passwords.hash(password, known) }, context);
      onMailOwed();
    },

    /** @throws {Problem} `rate_limited`. */
    async resend(email: string, context: RequestContext): Promise<void> {
      await allowMail(email);
      if (await inEqualTime(users.resendActivation(email, context))) onMailOwed();
    },
  };
}
