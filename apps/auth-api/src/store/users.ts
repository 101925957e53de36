/** Users and the mails they are owed. Each change is one statement, so it commits whole or not at all. */
import { randomUUID } from 'node:crypto';
import type { Database } from '@latchkey/shared/database';
import { emailKey } from '../domain/email-address.ts';
import type { RequestContext } from '../domain/request-context.ts';
import { NotReady } from '../not-ready.ts';
import { auditInsertFrom } from './audit.ts';

export interface Registration {
  email: string;
  passwordHash: string;
  displayName: string | null;
  locale: string;
}

export interface LoginCandidate {
  id: string;
  status: 'pending' | 'active';
  passwordHash: string;
  /** Until when nothing may be issued, by what PostgreSQL remembers; null: now. */
  closedUntil: Date | null;
  suspended: boolean;
}

export interface UserProfile {
  id: string;
  email: string;
  status: 'pending' | 'active';
  displayName: string | null;
  locale: string;
  createdAt: Date;
}

export type UserStore = ReturnType<typeof createUserStore>;

/** SQLSTATE unique_violation */
const UNIQUE_VIOLATION = '23505';

export const isUniqueViolation = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'P2010' && error.message.includes(UNIQUE_VIOLATION);

/** SQLSTATE undefined_table, undefined_column */
const isUndefinedInSchema = (error: unknown): boolean => error instanceof Error && /42P01|42703/.test(error.message);

/** The part of a mail's payload the request decides (packages/shared/src/mail-jobs.ts); the statement adds the rest. */
export const envelope = ({ requestId, traceparent }: RequestContext): string =>
  JSON.stringify({ v: 1, request_id: requestId, ...(traceparent !== undefined && { traceparent }) });

export function createUserStore(db: Database) {
  return {
    /**
     * A new registration and the mail with its link; for an address that has an account, only a mail that says so.
     */
    async register({ email, passwordHash, displayName, locale }: Registration, context: RequestContext): Promise<void> {
      await db.$executeRaw`
        WITH account AS (
          SELECT id, email, locale FROM users WHERE email_key = ${emailKey(email)} AND status <> 'pending'
        ), registration AS (
          INSERT INTO users (id, email, email_key, password_hash, display_name, locale)
          SELECT ${randomUUID()}::uuid, ${email}, ${emailKey(email)}, ${passwordHash}, ${displayName}, ${locale}
          WHERE NOT EXISTS (SELECT FROM account)
          RETURNING id, email, locale, activation_attempt
        ), audited AS (
          ${auditInsertFrom('registration', 'user.registered', context)}
        )
        INSERT INTO mail_outbox (id, name, payload)
        SELECT ${randomUUID()}::uuid, 'activation',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale, 'attempt', activation_attempt)
        FROM registration
        UNION ALL
        SELECT ${randomUUID()}::uuid, 'account_exists',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale)
        FROM account`;
    },

    /**
     * A new link for the latest registration of an address that has no account yet; the registration's older keys are dead from here on.
     * @returns whether there was one.
     */
    async resendActivation(email: string, context: RequestContext): Promise<boolean> {
      const mails = await db.$executeRaw`
        WITH latest AS (
          SELECT id FROM users
          WHERE email_key = ${emailKey(email)} AND status = 'pending'
            AND NOT EXISTS (SELECT FROM users WHERE email_key = ${emailKey(email)} AND status <> 'pending')
          ORDER BY created_at DESC, id DESC LIMIT 1
        ), renewed AS (
          UPDATE users SET activation_attempt = activation_attempt + 1 FROM latest
          WHERE users.id = latest.id AND users.status = 'pending'
          RETURNING users.id, users.email, users.locale, users.activation_attempt
        )
        INSERT INTO mail_outbox (id, name, payload)
        SELECT ${randomUUID()}::uuid, 'activation',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale, 'attempt', activation_attempt)
        FROM renewed`;
      return mails === 1;
    },

    /**
     * A new link in place of the one of `attempt`, to the address of that registration.
     * @returns false when the attempt no longer counts: activated, or replaced meanwhile.
     */
    async renewActivation(userId: string, attempt: number, context: RequestContext): Promise<boolean> {
      const mails = await db.$executeRaw`
        WITH renewed AS (
          UPDATE users SET activation_attempt = activation_attempt + 1
          WHERE id = ${userId}::uuid AND status = 'pending' AND activation_attempt = ${attempt}
          RETURNING id, email, locale, activation_attempt
        )
        INSERT INTO mail_outbox (id, name, payload)
        SELECT ${randomUUID()}::uuid, 'activation',
          ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale, 'attempt', activation_attempt)
        FROM renewed`;
      return mails === 1;
    },

    /**
     * Spends the attempt: of any number of callers one gets the user. This guarded UPDATE is the one atomic command that decides (ADR 0004).
     * @returns undefined when the attempt no longer counts, or when another registration of the address was activated first.
     */
    async activate(
      userId: string,
      attempt: number,
      context: RequestContext,
    ): Promise<{ id: string; email: string } | undefined> {
      try {
        const [user] = await db.$queryRaw<{ id: string; email: string; email_key: string }[]>`
          WITH activated AS (
            UPDATE users SET status = 'active', activated_at = now()
            WHERE id = ${userId}::uuid AND status = 'pending' AND activation_attempt = ${attempt}
              AND coalesce(suspended_until, now()) <= now()
            RETURNING id, email, email_key
          ), audited AS (
            ${auditInsertFrom('activated', 'user.activated', context)}
          )
          SELECT id, email, email_key FROM activated`;
        if (!user) return undefined;
        return { id: user.id, email: user.email };
      } catch (error) {
        if (isUniqueViolation(error)) return undefined;
        throw error;
      }
    },

    /** Forgets the registrations that lost: the unique index keeps them from ever being activated, so this is only tidying. */
    async deleteRivals(userId: string, email: string): Promise<void> {
      await db.user.deleteMany({ where: { emailKey: emailKey(email), status: 'pending', id: { not: userId } } });
    },

    async activationState(userId: string) {
      return db.user.findUnique({
        where: { id: userId },
        select: {
          suspendedUntil: true,
          status: true,
          activationAttempt: true,
          email: true,
          emailKey: true,
          locale: true,
        },
      });
    },

    /** Whether an address has an account. */
    async hasAccount(key: string): Promise<boolean> {
      return (await db.user.count({ where: { emailKey: key, status: { not: 'pending' } } })) > 0;
    },

    /** Whom a login with this address means: the account, else the latest registration. */
    async loginCandidate(email: string): Promise<LoginCandidate | undefined> {
      const [candidate] = await db.$queryRaw<LoginCandidate[]>`
        SELECT id, status::text AS status, password_hash AS "passwordHash",
          nullif(greatest(tokens_valid_from, suspended_until, now()), now()) AS "closedUntil",
          coalesce(suspended_until > now(), false) AS suspended
        FROM users
        WHERE email_key = ${emailKey(email)}
        ORDER BY (status <> 'pending') DESC, created_at DESC, id DESC LIMIT 1`;
      return candidate;
    },

    /** What outlives Redis of a cut-off. It never falls back. */
    async rememberCutOff(userId: string, validFrom: Date): Promise<void> {
      await db.$executeRaw`
        UPDATE users SET tokens_valid_from = greatest(tokens_valid_from, ${validFrom}) WHERE id = ${userId}::uuid`;
    },

    /** @param until null: not suspended. */
    async rememberSuspension(userId: string, until: Date | null, reason: string | null): Promise<void> {
      await db.user.update({ where: { id: userId }, data: { suspendedUntil: until, suspensionReason: reason } });
    },

    /** Whether the schema is there: asks for what the newest migration made. */
    async migrated(): Promise<void> {
      try {
        await db.$queryRaw`SELECT new_email FROM users LIMIT 1`;
      } catch (error) {
        if (isUndefinedInSchema(error)) throw new NotReady('the database is not migrated: run pnpm migrate');
        throw error;
      }
    },

    async profile(userId: string): Promise<UserProfile | null> {
      return db.user.findUnique({
        where: { id: userId },
        select: { id: true, email: true, status: true, displayName: true, locale: true, createdAt: true },
      });
    },
  };
}
