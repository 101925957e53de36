/** What an account's owner changes. Each change and the mail it owes are one statement, guarded by what it was decided on. */
import { randomUUID } from 'node:crypto';
import type { Database } from '@latchkey/shared/database';
import { emailKey } from '../domain/email-address.ts';
import type { RequestContext } from '../domain/request-context.ts';
import { auditInsertFrom } from './audit.ts';
import { envelope, isUniqueViolation, type UserProfile } from './users.ts';

/** What a change that asks for the password is decided on. */
export interface Credentials {
  email: string;
  displayName: string | null;
  passwordHash: string;
}

export interface ProfileChange {
  /** null clears it. */
  displayName?: string | null;
  locale?: string;
}

export type AccountChanges = ReturnType<typeof createAccountChanges>;

export function createAccountChanges(db: Database) {
  return {
    async credentials(userId: string): Promise<Credentials | null> {
      return db.user.findUnique({
        where: { id: userId },
        select: { email: true, displayName: true, passwordHash: true },
      });
    },

    /**
     * Another password, and the notice of it. Links mailed before, to a new password or to another address, are dead from here on.
     * @param presentHash what the present password was compared with.
     * @returns false when the password is another one meanwhile.
     */
    async changePassword(
      userId: string,
      presentHash: string,
      newHash: string,
      context: RequestContext,
    ): Promise<boolean> {
      const mails = await db.$executeRaw`
        WITH changed AS (
          UPDATE users SET password_hash = ${newHash}, new_email = NULL,
            password_reset_attempt = password_reset_attempt + 1, email_change_attempt = email_change_attempt + 1
          WHERE id = ${userId}::uuid AND password_hash = ${presentHash}
          RETURNING id, email, locale
        ), audited AS (
          ${auditInsertFrom('changed', 'user.password_changed', context)}
        )
        INSERT INTO mail_outbox (id, name, payload)
        SELECT ${randomUUID()}::uuid, 'password_changed',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale)
        FROM changed`;
      return mails === 1;
    },

    /**
     * Owes the account of an address a link to a new password; links mailed before are dead from here on.
     * @returns whether there is an account: a registration that waits for activation is none.
     */
    async startPasswordReset(email: string, context: RequestContext): Promise<boolean> {
      const mails = await db.$executeRaw`
        WITH account AS (
          UPDATE users SET password_reset_attempt = password_reset_attempt + 1
          WHERE email_key = ${emailKey(email)} AND status <> 'pending'
          RETURNING id, email, locale, password_reset_attempt
        )
        INSERT INTO mail_outbox (id, name, payload)
        SELECT ${randomUUID()}::uuid, 'password_reset',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale, 'attempt', password_reset_attempt)
        FROM account`;
      return mails === 1;
    },

    async passwordResetState(userId: string) {
      return db.user.findUnique({
        where: { id: userId },
        select: {
          email: true,
          displayName: true,
          locale: true,
          passwordResetAttempt: true,
          passwordResetSpent: true,
        },
      });
    },

    /**
     * Spends the attempt: of any number of callers one sets the password, and the notice of it is owed. A change of address that waits
     * for its confirmation is dead.
     * @returns false when the attempt no longer counts.
     */
    async resetPassword(userId: string, attempt: number, newHash: string, context: RequestContext): Promise<boolean> {
      const mails = await db.$executeRaw`
        WITH changed AS (
          UPDATE users SET password_hash = ${newHash}, password_reset_spent = ${attempt},
            new_email = NULL, email_change_attempt = email_change_attempt + 1
          WHERE id = ${userId}::uuid AND password_reset_attempt = ${attempt} AND password_reset_spent <> ${attempt}
          RETURNING id, email, locale
        ), audited AS (
          ${auditInsertFrom('changed', 'user.password_reset', context)}
        )
        INSERT INTO mail_outbox (id, name, payload)
        SELECT ${randomUUID()}::uuid, 'password_changed',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale)
        FROM changed`;
      return mails === 1;
    },

    /**
     * Owes two mails: one to the new address, with the link that makes it the account's or, where it has an account of its own, with the
     * word that it has; and the notice to the present one. Links mailed before are dead from here on.
     * @param presentHash what the present password was compared with.
     * @returns false when the password is another one meanwhile.
     */
    async startEmailChange(
      userId: string,
      presentHash: string,
      newEmail: string,
      context: RequestContext,
    ): Promise<boolean> {
      const mails = await db.$executeRaw`
        WITH taken AS (
          SELECT id, email, locale FROM users
          WHERE email_key = ${emailKey(newEmail)} AND status <> 'pending' AND id <> ${userId}::uuid
        ), account AS (
          UPDATE users SET email_change_attempt = email_change_attempt + 1,
            new_email = CASE WHEN EXISTS (SELECT FROM taken) THEN NULL ELSE ${newEmail} END
          WHERE id = ${userId}::uuid AND password_hash = ${presentHash}
          RETURNING id, email, locale, email_change_attempt, new_email
        )
        INSERT INTO mail_outbox (id, name, payload)
        SELECT ${randomUUID()}::uuid, 'email_change',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', new_email, 'locale', locale, 'attempt', email_change_attempt)
        FROM account WHERE new_email IS NOT NULL
        UNION ALL
        SELECT ${randomUUID()}::uuid, 'account_exists',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', taken.id, 'to', taken.email, 'locale', taken.locale)
        FROM taken, account
        UNION ALL
        SELECT ${randomUUID()}::uuid, 'email_change',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale)
        FROM account`;
      return mails > 0;
    },

    async emailChangeState(userId: string) {
      return db.user.findUnique({
        where: { id: userId },
        select: {
          newEmail: true,
          locale: true,
          emailChangeAttempt: true,
          emailChangeSpent: true,
          suspendedUntil: true,
        },
      });
    },

    /**
     * Spends the attempt: of any number of callers one gives the account its new address, and the former one is owed the word of it.
     * A password reset mailed to the former address is dead.
     * @returns false when the attempt no longer counts, or when another account got the address first.
     */
    async changeEmail(userId: string, attempt: number, newEmail: string, context: RequestContext): Promise<boolean> {
      try {
        const mails = await db.$executeRaw`
          WITH changed AS (
            UPDATE users SET email = ${newEmail}, email_key = ${emailKey(newEmail)}, new_email = NULL,
              email_change_spent = ${attempt}, password_reset_attempt = users.password_reset_attempt + 1
            FROM users AS before
            WHERE users.id = ${userId}::uuid AND before.id = users.id
              AND users.email_change_attempt = ${attempt} AND users.email_change_spent <> ${attempt}
              AND users.new_email = ${newEmail} AND coalesce(users.suspended_until, now()) <= now()
            RETURNING users.id, before.email, users.locale
          ), audited AS (
            ${auditInsertFrom('changed', 'user.email_changed', context)}
          )
          INSERT INTO mail_outbox (id, name, payload)
          SELECT ${randomUUID()}::uuid, 'email_changed',
            ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale)
          FROM changed`;
        return mails === 1;
      } catch (error) {
        if (isUniqueViolation(error)) return false;
        throw error;
      }
    },

    /** @returns undefined when there is no such user. */
    async updateProfile(userId: string, change: ProfileChange): Promise<UserProfile | undefined> {
      const [user] = await db.user.updateManyAndReturn({
        where: { id: userId },
        data: change,
        select: { id: true, email: true, status: true, displayName: true, locale: true, createdAt: true },
      });
      return user;
    },

    /**
     * Deletes the account, the mails it is owed and what the audit log holds of the person, in one transaction.
     * @param presentHash what the present password was compared with.
     * @returns the ids of those mails: their jobs may be in the queue; undefined when the password is another one meanwhile.
     */
    async delete(userId: string, presentHash: string, context: RequestContext): Promise<string[] | undefined> {
      const [[gone]] = await db.$transaction([
        db.$queryRaw<{ users: number; mails: string[] }[]>`
          WITH changed AS (
            DELETE FROM users WHERE id = ${userId}::uuid AND password_hash = ${presentHash} RETURNING id
          ), audited AS (
            ${auditInsertFrom('changed', 'user.deleted', context)}
          ), mails AS (
            DELETE FROM mail_outbox USING changed WHERE payload ->> 'user_id' = changed.id::text RETURNING mail_outbox.id
          )
          SELECT (SELECT count(*)::int FROM changed) AS users, (SELECT coalesce(array_agg(id::text), '{}') FROM mails) AS mails`,
        // A statement of its own: it has to see the event above.
        db.$executeRaw`
          SELECT audit_forget(${userId}::uuid) WHERE NOT EXISTS (SELECT FROM users WHERE id = ${userId}::uuid)`,
      ]);
      return gone?.users === 1 ? gone.mails : undefined;
    },
  };
}
