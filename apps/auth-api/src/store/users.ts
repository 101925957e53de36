/** Users and the mails they are owed. Each change is one statement, so it commits whole or not at all. */
import { randomUUID } from 'node:crypto';
import type { Database } from '@latchkey/shared/database';
import { emailKey } from '../domain/email-address.ts';
import type { RequestContext } from '../domain/request-context.ts';
import { NotReady } from '../not-ready.ts';

export interface Registration {
  email: string;
  passwordHash: string;
  displayName: string | null;
  locale: string;
}

export interface LoginCandidate {
  id: string;
  status: 'pending' | 'active' | 'suspended';
  passwordHash: string;
}

export interface UserProfile {
  id: string;
  email: string;
  status: 'pending' | 'active' | 'suspended';
  displayName: string | null;
  locale: string;
  createdAt: Date;
}

/** Whether a mail is owed now, and the ids of mails that are owed no more because of it. */
export interface OwedActivation {
  owed: boolean;
  superseded: string[];
}

export type UserStore = ReturnType<typeof createUserStore>;

/** SQLSTATE unique_violation */
const UNIQUE_VIOLATION = '23505';

const isUniqueViolation = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'P2010' && error.message.includes(UNIQUE_VIOLATION);

/** SQLSTATE undefined_table, undefined_column */
const isUndefinedInSchema = (error: unknown): boolean => error instanceof Error && /42P01|42703/.test(error.message);

/** The part of a mail's payload the request decides (packages/shared/src/mail-jobs.ts); the statement adds the rest. */
const envelope = ({ requestId, traceparent }: RequestContext): string =>
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
     * A new link for the registration of an address that has no account yet; its older keys are dead from here on, and its older mails
     * that are not sent yet are owed no more. If several registrations wait, none gets one (the caller may have made any of them): the
     * mail then says to register again.
     */
    async resendActivation(email: string, context: RequestContext): Promise<OwedActivation> {
      const [result] = await db.$queryRaw<OwedActivation[]>`
        WITH waiting AS (
          SELECT id, email, locale, created_at, count(*) OVER () AS registrations FROM users
          WHERE email_key = ${emailKey(email)} AND status = 'pending'
            AND NOT EXISTS (SELECT FROM users WHERE email_key = ${emailKey(email)} AND status <> 'pending')
        ), renewed AS (
          UPDATE users SET activation_attempt = activation_attempt + 1 FROM waiting
          WHERE users.id = waiting.id AND waiting.registrations = 1 AND users.status = 'pending'
          RETURNING users.id, users.email, users.locale, users.activation_attempt
        ), superseded AS (
          DELETE FROM mail_outbox WHERE name = 'activation' AND payload ->> 'user_id' IN (SELECT id::text FROM renewed)
          RETURNING id
        ), mail AS (
          INSERT INTO mail_outbox (id, name, payload)
          SELECT ${randomUUID()}::uuid, 'activation',
            ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale, 'attempt', activation_attempt)
          FROM renewed
          UNION ALL
          (SELECT ${randomUUID()}::uuid, 'activation',
            ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale, 'several', true)
          FROM waiting WHERE registrations > 1 ORDER BY created_at DESC, id DESC LIMIT 1)
          RETURNING id
        )
        SELECT EXISTS (SELECT FROM mail) AS owed, ARRAY(SELECT id::text FROM superseded) AS superseded`;
      return result ?? { owed: false, superseded: [] };
    },

    /**
     * A new link in place of the one of `attempt`, to the address of that registration.
     * @returns `owed` false when the attempt no longer counts: activated, or replaced meanwhile.
     */
    async renewActivation(userId: string, attempt: number, context: RequestContext): Promise<OwedActivation> {
      const [result] = await db.$queryRaw<OwedActivation[]>`
        WITH renewed AS (
          UPDATE users SET activation_attempt = activation_attempt + 1
          WHERE id = ${userId}::uuid AND status = 'pending' AND activation_attempt = ${attempt}
          RETURNING id, email, locale, activation_attempt
        ), superseded AS (
          DELETE FROM mail_outbox WHERE name = 'activation' AND payload ->> 'user_id' IN (SELECT id::text FROM renewed)
          RETURNING id
        ), mail AS (
          INSERT INTO mail_outbox (id, name, payload)
          SELECT ${randomUUID()}::uuid, 'activation',
            ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale, 'attempt', activation_attempt)
          FROM renewed
          RETURNING id
        )
        SELECT EXISTS (SELECT FROM mail) AS owed, ARRAY(SELECT id::text FROM superseded) AS superseded`;
      return result ?? { owed: false, superseded: [] };
    },

    /**
     * Spends the attempt: of any number of callers one gets the user. This guarded UPDATE is the one atomic command that decides (ADR 0004).
     * @returns undefined when the attempt no longer counts, or when another registration of the address was activated first.
     */
    async activate(userId: string, attempt: number): Promise<{ id: string; email: string } | undefined> {
      try {
        const [user] = await db.$queryRaw<{ id: string; email: string; email_key: string }[]>`
          UPDATE users SET status = 'active', activated_at = now()
          WHERE id = ${userId}::uuid AND status = 'pending' AND activation_attempt = ${attempt}
          RETURNING id, email, email_key`;
        if (!user) return undefined;
        return { id: user.id, email: user.email };
      } catch (error) {
        if (isUniqueViolation(error)) return undefined;
        throw error;
      }
    },

    /**
     * Forgets registrations nobody has confirmed for so long; those that lost to another registration of their address among them (the
     * unique index keeps them from ever being activated). @returns how many.
     */
    forgetUnconfirmed: (seconds: number): Promise<number> =>
      db.$executeRaw`
        DELETE FROM users WHERE status = 'pending' AND created_at < now() - make_interval(secs => ${seconds})`,

    async activationState(userId: string) {
      return db.user.findUnique({
        where: { id: userId },
        select: { status: true, activationAttempt: true, email: true, emailKey: true, locale: true },
      });
    },

    /** Whether an address has an account. */
    async hasAccount(key: string): Promise<boolean> {
      return (await db.user.count({ where: { emailKey: key, status: { not: 'pending' } } })) > 0;
    },

    /** Whom a login with this address means: the account, else the latest registration. */
    async loginCandidate(email: string): Promise<LoginCandidate | undefined> {
      const [candidate] = await db.$queryRaw<LoginCandidate[]>`
        SELECT id, status::text AS status, password_hash AS "passwordHash" FROM users
        WHERE email_key = ${emailKey(email)}
        ORDER BY (status <> 'pending') DESC, created_at DESC, id DESC LIMIT 1`;
      return candidate;
    },

    /** Whether the schema is there: asks for what the newest migration made. */
    async migrated(): Promise<void> {
      try {
        await db.$queryRaw`SELECT activation_attempt FROM users LIMIT 1`;
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
