/** Users and the mails they are owed. Each change is one statement, or one transaction where Redis must follow: it commits whole or not at all. */
import { randomUUID } from 'node:crypto';
import { emailKey } from '@latchkey/shared/account-fields';
import type { Database } from '@latchkey/shared/database';
import type { UserStatus } from '@latchkey/shared/generated/prisma/enums';
import type { RequestContext } from '../domain/request-context.ts';
import { auditInsert, auditInsertFrom, ofNobody } from './audit.ts';
import { withdrawn } from './outbox.ts';
import { FORGOTTEN_AT_ONCE, forgetEventsOf, forgetUnconfirmed } from './unconfirmed.ts';

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
}

export interface UserProfile {
  id: string;
  email: string;
  status: UserStatus;
  displayName: string | null;
  locale: string;
  createdAt: Date;
}

/** What a {@link UserProfile} is read from. */
const PROFILE = {
  id: true,
  email: true,
  status: true,
  displayName: true,
  locale: true,
  createdAt: true,
} as const;

/** What an activation key is judged by. */
export interface ActivationState {
  status: UserStatus;
  closed: boolean;
  activationAttempt: number;
  email: string;
  emailKey: string;
  locale: string;
}

/** Takes mails out of the queue, as far as they are not being sent. @throws what Redis throws. */
export type WithdrawMails = (ids: readonly string[]) => Promise<void>;

export type UserStore = ReturnType<typeof createUserStore>;

/** SQLSTATE unique_violation */
const UNIQUE_VIOLATION = '23505';

export const isUniqueViolation = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'P2010' && error.message.includes(UNIQUE_VIOLATION);

/** The part of a mail's payload the request decides (packages/shared/src/mail-jobs.ts); the statement adds the rest. */
export const envelope = ({ requestId, traceparent }: RequestContext): string =>
  JSON.stringify({ v: 1, request_id: requestId, ...(traceparent !== undefined && { traceparent }) });

export function createUserStore(db: Database) {
  return {
    /** A new registration and the mail with its link; for an address that has an account, only a mail that says so. */
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
     * A new link for the registration of an address that has no account yet; its older keys are dead from here on, and its older mails
     * that are not sent yet are owed no more. If several registrations wait, none gets one (the caller may have made any of them): the
     * mail then says to register again. That somebody asked is recorded either way: so either way something is written, and has to be flushed
     * to disk before the answer.
     * @returns whether a mail is owed now.
     */
    async resendActivation(email: string, context: RequestContext): Promise<boolean> {
      const [result] = await db.$queryRaw<{ owed: boolean }[]>`
        WITH waiting AS (
          SELECT id, email, locale, created_at, count(*) OVER () AS registrations FROM users
          WHERE email_key = ${emailKey(email)} AND status = 'pending'
            AND NOT EXISTS (SELECT FROM users WHERE email_key = ${emailKey(email)} AND status <> 'pending')
        ), renewed AS (
          UPDATE users SET activation_attempt = activation_attempt + 1 FROM waiting
          WHERE users.id = waiting.id AND waiting.registrations = 1 AND users.status = 'pending'
          RETURNING users.id, users.email, users.locale, users.activation_attempt
        ), audited AS (
          ${auditInsertFrom('renewed', 'user.activation_renewed', context, { by: 'anyone' })}
        ), audited_of_nobody AS (
          ${auditInsert(ofNobody('user.activation_renewed', context))} WHERE NOT EXISTS (SELECT FROM renewed)
        ), ${withdrawn('renewed', 'activation')}, mail AS (
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
        SELECT EXISTS (SELECT FROM mail) AS owed`;
      return result?.owed === true;
    },

    /**
     * A new link in place of the one of `attempt`, to the address of that registration.
     * @returns false when the attempt no longer counts: activated, or replaced meanwhile.
     */
    async renewActivation(userId: string, attempt: number, context: RequestContext): Promise<boolean> {
      const [result] = await db.$queryRaw<{ owed: boolean }[]>`
        WITH renewed AS (
          UPDATE users SET activation_attempt = activation_attempt + 1
          WHERE id = ${userId}::uuid AND status = 'pending' AND activation_attempt = ${attempt}
          RETURNING id, email, locale, activation_attempt
        ), audited AS (
          ${auditInsertFrom('renewed', 'user.activation_renewed', context, { by: 'anyone' })}
        ), ${withdrawn('renewed', 'activation')}, mail AS (
          INSERT INTO mail_outbox (id, name, payload)
          SELECT ${randomUUID()}::uuid, 'activation',
            ${envelope(context)}::jsonb || jsonb_build_object('user_id', id, 'to', email, 'locale', locale, 'attempt', activation_attempt)
          FROM renewed
          RETURNING id
        )
        SELECT EXISTS (SELECT FROM mail) AS owed`;
      return result?.owed === true;
    },

    /**
     * Spends the attempt: of any number of callers one gets the user. This guarded UPDATE is the one atomic command that decides (ADR 4).
     * From here on every link mailed for a registration of the address is dead.
     * @returns undefined when the attempt no longer counts, or when another registration of the address was activated first.
     */
    async activate(
      userId: string,
      attempt: number,
      context: RequestContext,
    ): Promise<{ id: string; email: string } | undefined> {
      try {
        const [user] = await db.$queryRaw<{ id: string; email: string }[]>`
          WITH activated AS (
            UPDATE users SET status = 'active', activated_at = now()
            WHERE id = ${userId}::uuid AND status = 'pending' AND activation_attempt = ${attempt}
              AND coalesce(greatest(login_closed_until, suspended_until), now()) <= now()
            RETURNING id, email, email_key
          ), audited AS (
            ${auditInsertFrom('activated', 'user.activated', context)}
          ), registrations AS (
            SELECT users.id FROM users JOIN activated USING (email_key)
          ), ${withdrawn('registrations', 'activation')}
          SELECT id, email FROM activated`;
        return user;
      } catch (error) {
        if (isUniqueViolation(error)) return undefined;
        throw error;
      }
    },

    /** Registrations nobody has confirmed for so long, the oldest first, no more of them than are forgotten at once. @returns their ids. */
    async unconfirmed(seconds: number): Promise<string[]> {
      const rows = await db.$queryRaw<{ id: string }[]>`
        SELECT id FROM users WHERE status = 'pending' AND created_at < now() - make_interval(secs => ${seconds})
        ORDER BY created_at LIMIT ${FORGOTTEN_AT_ONCE}`;
      return rows.map(({ id }) => id);
    },

    forgetEvents: (userId: string) => forgetEventsOf(db, userId),
    forgetUnconfirmed: (ids: readonly string[], withdrawMails: WithdrawMails) =>
      forgetUnconfirmed(db, ids, withdrawMails),

    async activationState(userId: string): Promise<ActivationState | undefined> {
      const [state] = await db.$queryRaw<ActivationState[]>`
        SELECT status::text AS status, coalesce(greatest(login_closed_until, suspended_until) > now(), false) AS closed,
          activation_attempt AS "activationAttempt", email, email_key AS "emailKey", locale
        FROM users WHERE id = ${userId}::uuid`;
      return state;
    },

    /** Whether an address has an account. */
    async hasAccount(key: string): Promise<boolean> {
      return (await db.user.count({ where: { emailKey: key, status: { not: 'pending' } } })) > 0;
    },

    /** Whom a login with this address means: the account, else the latest registration. */
    async loginCandidate(email: string): Promise<LoginCandidate | undefined> {
      const [candidate] = await db.$queryRaw<LoginCandidate[]>`
        SELECT id, status::text AS status, password_hash AS "passwordHash",
          nullif(greatest(login_closed_until, suspended_until, now()), now()) AS "closedUntil"
        FROM users
        WHERE email_key = ${emailKey(email)}
        ORDER BY (status <> 'pending') DESC, created_at DESC, id DESC LIMIT 1`;
      return candidate;
    },

    /**
     * Replaces the hash a password was just checked against by another one of the same password.
     * @returns false when the password, or its hash, is another one meanwhile.
     */
    async rehash(userId: string, present: string, wanted: string): Promise<boolean> {
      const rows = await db.$executeRaw`
        UPDATE users SET password_hash = ${wanted} WHERE id = ${userId}::uuid AND password_hash = ${present}`;
      return rows === 1;
    },

    /**
     * The password hash once every change under way has been decided (credential-change.ts). A login asks after it has opened its session:
     * if it is not the one it has checked, the session must not be given to anybody.
     * @returns undefined when the account is gone or closed.
     */
    async settledPasswordHash(userId: string): Promise<string | undefined> {
      const [row] = await db.$queryRaw<{ hash: string | null }[]>`
        SELECT settled_password_hash(${userId}::uuid) AS hash`;
      return row?.hash ?? undefined;
    },

    /** Whether there are accounts left whose password was hashed by another system; an index alone answers it. */
    async hasForeignHashes(): Promise<boolean> {
      const [row] = await db.$queryRaw<{ left: boolean }[]>`
        SELECT EXISTS (
          SELECT FROM users WHERE password_hash NOT LIKE '$argon2id$%' AND password_hash <> '!'
        ) AS left`;
      return row?.left === true;
    },

    /**
     * What of a cut-off outlives Redis. It never falls back.
     * @param closedUntil the door, apart from the cut-off: a clock ahead of PostgreSQL's must not close it.
     */
    async rememberCutOff(userId: string, validFrom: Date, closedUntil: Date | null): Promise<void> {
      await db.$executeRaw`
        UPDATE users SET tokens_valid_from = greatest(tokens_valid_from, ${validFrom}),
          login_closed_until = greatest(login_closed_until, ${closedUntil})
        WHERE id = ${userId}::uuid`;
    },

    /**
     * A suspension, and the cut-off that goes with its beginning and its end.
     * @param until null: not suspended.
     * @param inRedis says the same to Redis, while the row is held: of two operators at once, both stores end with the same one.
     */
    rememberSuspension: (
      userId: string,
      until: Date | null,
      reason: string | null,
      inRedis: () => Promise<void>,
    ): Promise<void> =>
      db.$transaction(async (tx) => {
        await tx.$executeRaw`
          UPDATE users SET suspended_until = ${until}, suspension_reason = ${reason},
            tokens_valid_from = CASE WHEN ${until !== null} OR suspended_until > now()
              THEN greatest(tokens_valid_from, now()) ELSE tokens_valid_from END
          WHERE id = ${userId}::uuid`;
        await inRedis();
      }),

    async profile(userId: string): Promise<UserProfile | null> {
      return db.user.findUnique({ where: { id: userId }, select: PROFILE });
    },
  };
}
