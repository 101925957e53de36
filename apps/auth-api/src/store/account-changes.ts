/**
 * What an account's owner changes. Each change, its record and the mail it owes are one statement, guarded by what it was decided on; where
 * sessions end with it, they end before it is committed (credential-change.ts).
 */
import { randomUUID } from 'node:crypto';
import { emailKey } from '@latchkey/shared/account-fields';
import type { Database } from '@latchkey/shared/database';
import type { Prisma } from '@latchkey/shared/generated/prisma/client';
import type { RequestContext } from '../domain/request-context.ts';
import { auditInsert, auditInsertFrom, ofNobody } from './audit.ts';
import { changeCredentials, type EndSessions, eraseUser } from './credential-change.ts';
import { withdrawn } from './outbox.ts';
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

/** What a key of a change of address is judged by. */
interface EmailChangeRecord {
  /** The present address. */
  email: string;
  /** null: none is waited for, or it has an account of its own. */
  newEmail: string | null;
  locale: string;
  attempt: number;
  spent: number;
  /** Suspended, or cut off until an instant to come. */
  closed: boolean;
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
     * @param hashes what the present password was compared with, and the new one.
     * @returns false when the password is another one meanwhile.
     */
    async changePassword(
      userId: string,
      hashes: { present: string; wanted: string },
      context: RequestContext,
      endSessions: EndSessions,
    ): Promise<boolean> {
      const change = (tx: Prisma.TransactionClient) => tx.$executeRaw`
        WITH changed AS (
          UPDATE users SET password_hash = ${hashes.wanted}, new_email = NULL,
            password_reset_attempt = password_reset_attempt + 1, email_change_attempt = email_change_attempt + 1
          WHERE id = ${userId}::uuid AND password_hash = ${hashes.present}
          RETURNING id, email, locale
        ), audited AS (
          ${auditInsertFrom('changed', 'user.password_changed', context)}
        ), ${withdrawn('changed', 'password_reset', 'email_change')}
        INSERT INTO mail_outbox (id, name, payload)
        SELECT ${randomUUID()}::uuid, 'password_changed',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale)
        FROM changed`;
      return oneMail(db, userId, change, endSessions);
    },

    /**
     * Owes the account of an address a link to a new password; links mailed before are dead from here on. That somebody asked is recorded
     * either way: so either way something is written, and has to be flushed to disk before the answer.
     * @returns whether there is an account: a registration that waits for activation is none.
     */
    async startPasswordReset(email: string, context: RequestContext): Promise<boolean> {
      const mails = await db.$executeRaw`
        WITH changed AS (
          UPDATE users SET password_reset_attempt = password_reset_attempt + 1
          WHERE email_key = ${emailKey(email)} AND status <> 'pending'
          RETURNING id, email, locale, password_reset_attempt
        ), audited AS (
          ${auditInsertFrom('changed', 'user.password_reset_requested', context, { by: 'anyone' })}
        ), ${withdrawn('changed', 'password_reset')}, audited_of_nobody AS (
          ${auditInsert(ofNobody('user.password_reset_requested', context))} WHERE NOT EXISTS (SELECT FROM changed)
        )
        INSERT INTO mail_outbox (id, name, payload)
        SELECT ${randomUUID()}::uuid, 'password_reset',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale, 'attempt', password_reset_attempt)
        FROM changed`;
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
    async resetPassword(
      { userId, attempt }: { userId: string; attempt: number },
      newHash: string,
      context: RequestContext,
      endSessions: EndSessions,
    ): Promise<boolean> {
      const change = (tx: Prisma.TransactionClient) => tx.$executeRaw`
        WITH changed AS (
          UPDATE users SET password_hash = ${newHash}, password_reset_spent = ${attempt},
            tokens_valid_from = greatest(tokens_valid_from, now()),
            new_email = NULL, email_change_attempt = email_change_attempt + 1
          WHERE id = ${userId}::uuid AND password_reset_attempt = ${attempt} AND password_reset_spent <> ${attempt}
          RETURNING id, email, locale
        ), audited AS (
          ${auditInsertFrom('changed', 'user.password_reset', context)}
        ), ${withdrawn('changed', 'password_reset', 'email_change')}
        INSERT INTO mail_outbox (id, name, payload)
        SELECT ${randomUUID()}::uuid, 'password_changed',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale)
        FROM changed`;
      return oneMail(db, userId, change, endSessions);
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
        ), changed AS (
          UPDATE users SET email_change_attempt = email_change_attempt + 1,
            new_email = CASE WHEN EXISTS (SELECT FROM taken) THEN NULL ELSE ${newEmail} END
          WHERE id = ${userId}::uuid AND password_hash = ${presentHash}
          RETURNING id, email, locale, email_change_attempt, new_email
        ), audited AS (
          ${auditInsertFrom('changed', 'user.email_change_requested', context)}
        ), ${withdrawn('changed', 'email_change')}
        INSERT INTO mail_outbox (id, name, payload)
        SELECT ${randomUUID()}::uuid, 'email_change',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', new_email, 'locale', locale, 'attempt', email_change_attempt)
        FROM changed WHERE new_email IS NOT NULL
        UNION ALL
        SELECT ${randomUUID()}::uuid, 'account_exists',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', taken.id, 'to', taken.email, 'locale', taken.locale)
        FROM taken, changed
        UNION ALL
        SELECT ${randomUUID()}::uuid, 'email_change',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale)
        FROM changed`;
      return mails > 0;
    },

    async emailChangeState(userId: string): Promise<EmailChangeRecord | undefined> {
      const [state] = await db.$queryRaw<EmailChangeRecord[]>`
        SELECT email, new_email AS "newEmail", locale, email_change_attempt AS attempt, email_change_spent AS spent,
          coalesce(greatest(login_closed_until, suspended_until) > now(), false) AS closed
        FROM users WHERE id = ${userId}::uuid`;
      return state;
    },

    /**
     * Spends the attempt: of any number of callers one gives the account its new address, and the former one is owed the word of it.
     * A password reset mailed to the former address is dead. The audit log keeps that address for as long as the account is there.
     * @returns false when the attempt no longer counts, or when another account got the address first.
     */
    async changeEmail(
      { userId, attempt }: { userId: string; attempt: number },
      { former, newEmail }: { former: string; newEmail: string },
      context: RequestContext,
    ): Promise<boolean> {
      try {
        const mails = await db.$executeRaw`
          WITH changed AS (
            UPDATE users SET email = ${newEmail}, email_key = ${emailKey(newEmail)}, new_email = NULL,
              email_change_spent = ${attempt}, password_reset_attempt = users.password_reset_attempt + 1
            FROM users AS before
            WHERE users.id = ${userId}::uuid AND before.id = users.id
              AND users.email_change_attempt = ${attempt} AND users.email_change_spent <> ${attempt}
              AND users.new_email = ${newEmail} AND before.email = ${former}
              AND coalesce(greatest(users.login_closed_until, users.suspended_until), now()) <= now()
            RETURNING users.id, before.email, users.locale
          ), audited AS (
            ${auditInsertFrom('changed', 'user.email_changed', context, { details: { email: former } })}
          ), ${withdrawn('changed', 'password_reset', 'email_change')}
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
    async updateProfile(
      userId: string,
      { displayName, locale }: ProfileChange,
      context: RequestContext,
    ): Promise<UserProfile | undefined> {
      const fields = [
        ...(displayName === undefined ? [] : ['display_name']),
        ...(locale === undefined ? [] : ['locale']),
      ];
      const details = { fields: fields.join(' ') };
      const [user] = await db.$queryRaw<UserProfile[]>`
        WITH changed AS (
          UPDATE users SET locale = coalesce(${locale ?? null}, locale),
            display_name = CASE WHEN ${displayName === undefined} THEN display_name ELSE ${displayName ?? null} END
          WHERE id = ${userId}::uuid
          RETURNING id, email, status::text AS status, display_name AS "displayName", locale, created_at AS "createdAt"
        ), audited AS (
          ${auditInsertFrom('changed', 'user.profile_changed', context, { details })} WHERE ${fields.length > 0}
        )
        SELECT * FROM changed`;
      return user;
    },

    /**
     * {@link eraseUser} by the account's owner.
     * @param presentHash what the present password was compared with.
     * @returns false when the password is another one meanwhile.
     */
    async delete(
      userId: string,
      presentHash: string,
      context: RequestContext,
      inRedis: Parameters<typeof eraseUser>[2],
    ): Promise<boolean> {
      const event = { type: 'user.deleted', actor: { type: 'user', id: userId }, userId, context } as const;
      return eraseUser(db, { userId, presentHash, event }, inRedis);
    },
  };
}

/** A change of credentials that owes one mail. @returns whether it was made. */
async function oneMail(
  db: Database,
  userId: string,
  change: (tx: Prisma.TransactionClient) => Promise<number>,
  endSessions: EndSessions,
): Promise<boolean> {
  const made = async (tx: Prisma.TransactionClient) => ((await change(tx)) === 1 ? true : undefined);
  return (await changeCredentials(db, userId, made, endSessions)) === true;
}
