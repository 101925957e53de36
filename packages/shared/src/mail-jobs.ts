/**
 * The contract between auth-api, which owes mails, and mailer-worker, which sends them: queue, job names, payloads, retry.
 *
 * No payload holds a usable secret: the worker makes the key as it sends. Either app may be one release older: a payload only ever
 * gains optional fields within `v: 1`, and a reader ignores fields it does not know.
 */
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';

export const MAIL_QUEUE = 'mail';

const envelope = {
  v: Type.Literal(1),
  /** Where the mail goes: the address as it was given. */
  to: Type.String({ minLength: 3, maxLength: 254 }),
  /** BCP 47 tag; the worker falls back to English. */
  locale: Type.String({ minLength: 2, maxLength: 35 }),
  /** The request that caused the mail, for the logs of both apps. */
  request_id: Type.String({ maxLength: 128 }),
  /** W3C Trace Context of that request. */
  traceparent: Type.Optional(Type.String({ maxLength: 55 })),
  user_id: Type.String({ format: 'uuid' }),
};

const payloads = {
  /**
   * A link that activates; `attempt` is the user's attempt the key will stand for. Or, with `several` in its place, the advice to register
   * again: more than one registration of the address waits, and a link could be the wrong one's.
   */
  activation: Type.Object({
    ...envelope,
    attempt: Type.Optional(Type.Integer({ minimum: 1 })),
    several: Type.Optional(Type.Literal(true)),
  }),
  /** Somebody registered an address that has an account, or wanted to move an account to it. */
  account_exists: Type.Object(envelope),
  /** A link that leads to a new password. `attempt` is the user's reset the key will stand for. */
  password_reset: Type.Object({ ...envelope, attempt: Type.Integer({ minimum: 1 }) }),
  /** The notice that the password was changed, whichever way. */
  password_changed: Type.Object(envelope),
  /** With `attempt`: to the new address, a link that makes it the account's. Without: the notice of it to the present address. */
  email_change: Type.Object({ ...envelope, attempt: Type.Optional(Type.Integer({ minimum: 1 })) }),
  /** To the former address: the account has another one now. */
  email_changed: Type.Object(envelope),
};

export type MailJobName = keyof typeof payloads;
export type MailJob = { [Name in MailJobName]: { name: Name; payload: Static<(typeof payloads)[Name]> } }[MailJobName];

const validators = {
  activation: Compile(payloads.activation),
  account_exists: Compile(payloads.account_exists),
  password_reset: Compile(payloads.password_reset),
  password_changed: Compile(payloads.password_changed),
  email_change: Compile(payloads.email_change),
  email_changed: Compile(payloads.email_changed),
};

/** Every job name of the contract. */
export const MAIL_JOB_NAMES: readonly string[] = Object.keys(payloads);

/** A job this worker cannot mean: an unknown name or a payload that breaks the contract. */
export class InvalidMailJob extends Error {
  override readonly name = 'InvalidMailJob';
  /** A newer release may mean it, and a worker of it may run beside this one. Otherwise trying again cannot help. */
  readonly newer: boolean;

  constructor(message: string, { newer = false } = {}) {
    super(message);
    this.newer = newer;
  }
}

/**
 * Checks a job as it comes from the queue.
 * @throws {InvalidMailJob} naming the field, never its value.
 */
export function parseMailJob(name: string, payload: unknown): MailJob {
  const version = typeof payload === 'object' && payload !== null && 'v' in payload ? payload.v : undefined;
  if (Number.isInteger(version) && Number(version) > 1)
    throw new InvalidMailJob(`${name.slice(0, 40)}/v: of a newer release`, { newer: true });
  switch (name) {
    case 'activation': {
      const activation = checked(name, validators.activation, payload);
      if ((activation.attempt === undefined) !== (activation.several === true)) {
        throw new InvalidMailJob('activation/attempt: either attempt or several is wanted');
      }
      return { name, payload: activation };
    }
    case 'account_exists':
      return { name, payload: checked(name, validators.account_exists, payload) };
    case 'password_reset':
      return { name, payload: checked(name, validators.password_reset, payload) };
    case 'password_changed':
      return { name, payload: checked(name, validators.password_changed, payload) };
    case 'email_change':
      return { name, payload: checked(name, validators.email_change, payload) };
    case 'email_changed':
      return { name, payload: checked(name, validators.email_changed, payload) };
    default:
      throw new InvalidMailJob(`unknown job name ${JSON.stringify(name.slice(0, 40))}`, { newer: true });
  }
}

function checked<T>(
  name: string,
  validator: { Check(value: unknown): value is T; Errors(value: unknown): { instancePath: string; message: string }[] },
  payload: unknown,
): T {
  if (validator.Check(payload)) return payload;
  const [first] = validator.Errors(payload);
  throw new InvalidMailJob(`${name}${first?.instancePath ?? ''}: ${first?.message ?? 'invalid payload'}`);
}

/**
 * How a job is retried. 24 attempts, the wait doubling from 5 s to at most 8 h (the worker's `backoffStrategy` adds jitter), reach past
 * 90 h: RFC 5321 section 4.5.4.1 asks a client to keep trying for at least 4–5 days, a link of 15 minutes wants less.
 */
export const MAIL_JOB_OPTIONS = {
  attempts: 24,
  backoff: { type: 'mail' },
  removeOnComplete: true,
  removeOnFail: false,
} as const;

/** Milliseconds before attempt `attemptsMade + 1`: 5 s doubled each time, at most 8 h, ± 20 % so that a backlog does not come back as one wave. */
export function mailBackoff(attemptsMade: number, random: () => number = Math.random): number {
  const base = Math.min(5_000 * 2 ** (attemptsMade - 1), 8 * 60 * 60 * 1000);
  return Math.round(base * (0.8 + 0.4 * random()));
}
