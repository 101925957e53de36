/**
 * Password hashes of other systems: which are taken over with their accounts, and what one says. They are checked at login and replaced by
 * our own (argon2id) at the first that succeeds. Written as Django writes them (django.contrib.auth.hashers), because they name their scheme.
 */

/** What an account without a password has instead of a hash. Nothing matches it. */
export const NO_PASSWORD = '!';

export type ForeignHash =
  | { scheme: 'pbkdf2_sha256' | 'pbkdf2_sha1'; iterations: number; salt: string; key: Buffer }
  /** RFC 7914: N, r and p. */
  | { scheme: 'scrypt'; cost: number; blockSize: number; parallelism: number; salt: string; key: Buffer }
  /** A PHC string. */
  | { scheme: 'argon2'; phc: string };

/** Why a hash is not taken over, in words for the person who imports. The hash is not in them. */
export interface RefusedHash {
  refused: string;
}

/**
 * Most work one check may be: what others wait for behind it, and what a refused login is made to last (auth-api, domain/login.ts).
 * Django 6.0 takes 1 200 000 iterations, scrypt N=2^14 r=8 p=5, argon2id 100 MiB × 2: some 200 to 330 ms of one core of 2026.
 */
const MOST_ITERATIONS = 2_000_000;
const MOST_SCRYPT_MEMORY = 64 * 1024 * 1024;
const MOST_SCRYPT_WORK = 16_384 * 8 * 8;
/** KiB, and KiB × passes. */
const MOST_ARGON2_MEMORY = 128 * 1024;
const MOST_ARGON2_WORK = 3 * 128 * 1024;

const INSTEAD = 'leave password_hash out, and the user sets a password by mail';
/** Known by name and not taken over. */
const REFUSED: Readonly<Record<string, string>> = {
  bcrypt: `bcrypt is not supported: ${INSTEAD}`,
  bcrypt_sha256: `bcrypt_sha256 is not supported: ${INSTEAD}`,
  md5: `md5 is too weak to be kept: ${INSTEAD}`,
  sha1: `sha1 is too weak to be kept: ${INSTEAD}`,
  crypt: `crypt is too weak to be kept: ${INSTEAD}`,
};

/** Salts are text: printable ASCII without the separator. */
const PBKDF2 = /^(pbkdf2_sha256|pbkdf2_sha1)\$([1-9]\d{0,8})\$([ -#%-~]{1,128})\$([A-Za-z0-9+/=]{1,128})$/;
const SCRYPT = /^scrypt\$([1-9]\d{0,8})\$([ -#%-~]{1,128})\$([1-9]\d{0,3})\$([1-9]\d{0,3})\$([A-Za-z0-9+/=]{1,256})$/;
/** PHC string format: base64 without padding; 8 bytes of salt and 16 of key at least. Django puts `argon2` before it. */
const ARGON2 =
  /^(?:argon2)?(\$argon2(?:id|i|d)\$v=19\$m=([1-9]\d{0,8}),t=([1-9]\d{0,3}),p=([1-9]\d{0,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,171})$/;

const KEY_LENGTH = { pbkdf2_sha256: 32, pbkdf2_sha1: 20, scrypt: 64 } as const;

/** @returns undefined for what is not the base64 of that many bytes. */
function keyOf(scheme: keyof typeof KEY_LENGTH, text: string): Buffer | undefined {
  const key = Buffer.from(text, 'base64');
  return key.length === KEY_LENGTH[scheme] && key.toString('base64') === text ? key : undefined;
}

const tooCostly = (scheme: string): RefusedHash => ({
  refused: `${scheme} with a cost this high would hold up every login`,
});
const malformed = (scheme: string): RefusedHash => ({ refused: `is no ${scheme} hash as Django writes it` });

function readPbkdf2(text: string, scheme: 'pbkdf2_sha256' | 'pbkdf2_sha1'): ForeignHash | RefusedHash {
  const [, , count, salt, encoded] = PBKDF2.exec(text) ?? [];
  const key = keyOf(scheme, encoded ?? '');
  if (salt === undefined || !key) return malformed(scheme);
  const iterations = Number(count);
  return iterations > MOST_ITERATIONS ? tooCostly(scheme) : { scheme, iterations, salt, key };
}

function readScrypt(text: string): ForeignHash | RefusedHash {
  const [, n, salt, r, p, encoded] = SCRYPT.exec(text) ?? [];
  const key = keyOf('scrypt', encoded ?? '');
  const [cost, blockSize, parallelism] = [Number(n), Number(r), Number(p)];
  // RFC 7914 section 6: N is a power of two.
  if (salt === undefined || !key || cost < 2 || !Number.isInteger(Math.log2(cost))) return malformed('scrypt');
  const memory = 128 * cost * blockSize;
  if (memory > MOST_SCRYPT_MEMORY || cost * blockSize * parallelism > MOST_SCRYPT_WORK) return tooCostly('scrypt');
  return { scheme: 'scrypt', cost, blockSize, parallelism, salt, key };
}

function readArgon2(text: string): ForeignHash | RefusedHash {
  const [, phc, m, t, p] = ARGON2.exec(text) ?? [];
  const [memory, passes, lanes] = [Number(m), Number(t), Number(p)];
  // RFC 9106 section 3.1: at least 8 KiB per lane.
  if (phc === undefined || memory < 8 * lanes) return malformed('argon2');
  if (memory > MOST_ARGON2_MEMORY || memory * passes > MOST_ARGON2_WORK) return tooCostly('argon2');
  return { scheme: 'argon2', phc };
}

/** Reads a hash of another system. */
export function readForeignHash(text: string): ForeignHash | RefusedHash {
  const name = text.split('$', 1)[0] ?? '';
  if (name === 'pbkdf2_sha256' || name === 'pbkdf2_sha1') return readPbkdf2(text, name);
  if (name === 'scrypt') return readScrypt(text);
  if (name === 'argon2' || /^\$argon2/.test(text)) return readArgon2(text);
  // Django's way to say that there is none (UNUSABLE_PASSWORD_PREFIX).
  if (text.startsWith(NO_PASSWORD)) return { refused: 'is no password: leave password_hash out' };
  if (/^\$2[abxy]?\$/.test(text)) return { refused: String(REFUSED.bcrypt) };
  return { refused: REFUSED[name] ?? 'is of no scheme known here: pbkdf2_sha256, pbkdf2_sha1, scrypt, argon2' };
}

/** As it is stored: what begins with `$argon2id$` there is our own. */
export const storedForm = (text: string, hash: ForeignHash): string =>
  hash.scheme === 'argon2' ? `argon2${hash.phc}` : text;
