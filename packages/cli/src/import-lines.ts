/** A file of accounts: one JSON object per line, as `latchkey user import` takes it. */
import {
  EMAIL_PATTERN,
  emailKey,
  LOCALE_PATTERN,
  LONGEST_DISPLAY_NAME,
  PRINTABLE_PATTERN,
} from '@latchkey/shared/account-fields';
import { NO_PASSWORD, readForeignHash, storedForm } from '@latchkey/shared/password-hashes';

/** An account as it is written. */
export interface ImportedAccount {
  email: string;
  emailKey: string;
  /** `!`: none, the user sets one by mail. */
  passwordHash: string;
  displayName: string | null;
  locale: string;
  /** RFC 3339; null: now. */
  createdAt: string | null;
}

/** What is wrong with a line. It never quotes the line: there are hashes in it. */
export interface LineProblem {
  line: number;
  /** null: the line as a whole. */
  field: string | null;
  problem: string;
}

const EMAIL = new RegExp(EMAIL_PATTERN, 'u');
const PRINTABLE = new RegExp(PRINTABLE_PATTERN, 'u');
const LOCALE = new RegExp(LOCALE_PATTERN, 'u');
/** RFC 3339 section 5.6. */
const INSTANT = /^(\d{4}-\d{2}-\d{2})T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/;

type Check = (value: unknown) => string | undefined;

const isText = (value: unknown): value is string => typeof value === 'string';

/** @returns undefined for what is no instant between 1970 and now. */
function pastInstant(value: unknown): Date | undefined {
  const day = isText(value) ? INSTANT.exec(value)?.[1] : undefined;
  if (!isText(value) || day === undefined) return undefined;
  const [instant, midnight] = [new Date(value), new Date(day)];
  if (Number.isNaN(instant.getTime()) || instant.getTime() < 0 || instant.getTime() > Date.now()) return undefined;
  // A Date takes 30 February for 1 March.
  return midnight.toISOString().startsWith(day) ? instant : undefined;
}

/** Field → what is wrong with its value, if anything. */
const CHECKS: Readonly<Record<string, Check>> = {
  email: (value) =>
    isText(value) && EMAIL.test(value)
      ? undefined
      : 'must be an e-mail address (RFC 5321, ASCII, at most 254 characters)',
  password_hash(value) {
    if (!isText(value)) return 'must be text';
    const hash = readForeignHash(value);
    return 'refused' in hash ? hash.refused : undefined;
  },
  display_name: (value) =>
    isText(value) && value.length > 0 && [...value].length <= LONGEST_DISPLAY_NAME && PRINTABLE.test(value)
      ? undefined
      : `must be text of 1 to ${LONGEST_DISPLAY_NAME} characters without control characters`,
  locale: (value) => (isText(value) && LOCALE.test(value) ? undefined : 'must be a BCP 47 language tag'),
  created_at: (value) =>
    pastInstant(value) ? undefined : 'must be an instant since 1970 that has passed, in RFC 3339',
};

/** @returns undefined for what is not one JSON object. The parser's own message would quote the line. */
function objectOf(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

function storedHash(text: unknown): string {
  if (!isText(text)) return NO_PASSWORD;
  const hash = readForeignHash(text);
  return 'refused' in hash ? NO_PASSWORD : storedForm(text, hash);
}

/**
 * Reads one line. A field that is null counts as left out; `email` alone is required.
 * @param line its number, from 1.
 */
export function readLine(text: string, line: number): ImportedAccount | LineProblem[] {
  const row = objectOf(text);
  if (!row) return [{ line, field: null, problem: 'is no JSON object' }];
  // What a decoder makes of bytes that are none.
  if (text.includes('\uFFFD')) return [{ line, field: null, problem: 'is not UTF-8' }];
  const given = Object.entries(row).filter(([, value]) => value !== null);
  const problems = given.flatMap(([field, value]) => {
    // Own: a field may be called like what every object has.
    const check = Object.hasOwn(CHECKS, field) ? CHECKS[field] : undefined;
    const problem = check ? check(value) : `is no field of an account: ${Object.keys(CHECKS).join(', ')}`;
    return problem === undefined ? [] : [{ line, field, problem }];
  });
  const { email, password_hash, display_name, locale, created_at } = Object.fromEntries(given);
  if (email === undefined) problems.unshift({ line, field: 'email', problem: 'is required' });
  if (problems.length > 0 || !isText(email)) return problems;
  return {
    email,
    emailKey: emailKey(email),
    passwordHash: storedHash(password_hash),
    displayName: isText(display_name) ? display_name : null,
    locale: isText(locale) ? locale : 'en',
    createdAt: pastInstant(created_at)?.toISOString() ?? null,
  };
}
