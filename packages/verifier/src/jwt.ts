/** A JWT in the one form its issuer writes (RFC 7515 compact serialisation), held against every rule of RFC 8725 that applies. */
import { isUtf8 } from 'node:buffer';
import { type KeyObject, verify } from 'node:crypto';
import { derOf, ES256_LENGTH, hasLowS } from './ecdsa.ts';
import { VerifyError } from './errors.ts';

export type Algorithm = 'ES256' | 'EdDSA' | 'RS256';

/** A key of the issuer, with the one algorithm it is for: never the token's choice (RFC 8725 section 3.1). */
export interface VerificationKey {
  readonly kid: string;
  readonly alg: Algorithm;
  readonly key: KeyObject;
}

/** Longer than any token of the issuer: one with an RS256 signature takes some 1200 characters. */
const LONGEST = 4096;
/** Header, claims, signature. All of a token is read once, whatever it is. */
const PARTS = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/;
/** What may stand last, by what is left over of groups of four: bits to spare are zero (RFC 4648 section 3.5). No byte ends after one. */
const LAST = { 1: '', 2: 'AQgw', 3: 'AEIMQUYcgkosw048' } as const;
const isWhole = (part: string): boolean => {
  const over = part.length % 4;
  return !(over === 1 || over === 2 || over === 3) || LAST[over].includes(part.slice(-1));
};

type Json = { readonly [name: string]: unknown };

/** @throws {VerifyError} `token_malformed` unless it is the canonical form: other characters must never mean the same bytes. */
function decode(part: string): Buffer {
  if (!isWhole(part)) throw new VerifyError('token_malformed');
  return Buffer.from(part, 'base64url');
}

/**
 * An object, written as JSON.stringify writes it: so no member is repeated, at any depth, and no parser anywhere reads it in another way.
 * @throws {VerifyError} `token_malformed`
 */
function parseObject(bytes: Buffer): Json {
  try {
    const text = isUtf8(bytes) ? bytes.toString() : '';
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value) && JSON.stringify(value) === text)
      return value as Json;
  } catch (cause) {
    throw new VerifyError('token_malformed', { cause });
  }
  throw new VerifyError('token_malformed');
}

/** A token taken apart, with nothing believed yet. */
export interface UnverifiedToken {
  readonly kid: string;
  readonly header: Json;
  readonly signed: Buffer;
  readonly claims: string;
  readonly signature: Buffer;
}

/**
 * Takes a token apart. What a header offers to check itself with (`jwk`, `jku`, `x5c`, `x5u`) is never looked at: `kid` only chooses among the
 * keys of the issuer.
 * @throws {VerifyError} `token_malformed`, `token_unsupported`, `key_unknown`.
 */
export function takeApart(token: string): UnverifiedToken {
  // Whoever calls this without types may have none.
  const parts = typeof token === 'string' && token.length <= LONGEST ? PARTS.exec(token) : null;
  if (!parts) throw new VerifyError('token_malformed');
  const [, head = '', claims = '', signature = ''] = parts;
  const header = parseObject(decode(head));
  const own = (name: string): unknown => (Object.hasOwn(header, name) ? header[name] : undefined);
  // RFC 9068 section 4. A token made for something else is no access token, whoever signed it (RFC 8725 section 3.11).
  const typ = own('typ');
  if (typ !== 'at+jwt' && typ !== 'application/at+jwt') throw new VerifyError('token_unsupported');
  // RFC 7515 section 4.1.11: what it names must be understood, and nothing here is; without it `b64` (RFC 7797) means nothing.
  if (Object.hasOwn(header, 'crit')) throw new VerifyError('token_unsupported');
  const kid = own('kid');
  if (typeof kid !== 'string') throw new VerifyError('key_unknown');
  return {
    kid,
    header,
    signed: Buffer.from(token.slice(0, head.length + 1 + claims.length)),
    claims,
    signature: decode(signature),
  };
}

const checks: Readonly<Record<Algorithm, (key: KeyObject, signed: Buffer, signature: Buffer) => boolean>> = {
  ES256: (key, signed, signature) =>
    // Not dsaEncoding 'ieee-p1363': that, and a key within options, cost a third of what all of this does.
    signature.length === ES256_LENGTH && hasLowS(signature) && verify('sha256', signed, key, derOf(signature)),
  EdDSA: (key, signed, signature) => verify(null, signed, key, signature),
  RS256: (key, signed, signature) => verify('sha256', signed, key, signature),
};

/**
 * Checks the signature, on this thread: in libuv's pool it would wait behind whatever else is there, such as password hashes.
 * @returns the claims, which nobody has looked at before.
 * @throws {VerifyError} `token_unsupported`, `signature_invalid`, `token_malformed`.
 */
export function verifiedClaims({ header, signed, claims, signature }: UnverifiedToken, { alg, key }: VerificationKey) {
  if (header.alg !== alg) throw new VerifyError('token_unsupported');
  if (!checks[alg](key, signed, signature)) throw new VerifyError('signature_invalid');
  return parseObject(decode(claims));
}

/** The claims of RFC 9068 section 2.2, and Latchkey's own. */
export interface AccessTokenClaims {
  readonly iss: string;
  /** A user's id; a client's where it acts for itself. */
  readonly sub: string;
  readonly aud: string | readonly string[];
  /** Seconds. */
  readonly exp: number;
  readonly iat: number;
  readonly nbf?: number;
  readonly jti: string;
  readonly client_id: string;
  /** Scopes separated by spaces. */
  readonly scope: string;
  /** The session; a client that acts for itself has none. */
  readonly sid?: string;
  /** The session's first login, seconds. */
  readonly orig_iat?: number;
}

interface ClaimRules {
  issuer: string;
  audience: string;
}

const isText = (value: unknown): boolean => typeof value === 'string' && value !== '';
const isOptionalText = (value: unknown): boolean => value === undefined || typeof value === 'string';
const isSecond = (value: unknown): boolean => Number.isSafeInteger(value);

/** What each claim has to be, whenever it is asked. `iat` may lie ahead: the signature is the issuer's, and its clock may be. */
const claimRules = (rules: ClaimRules): Readonly<Record<string, (value: unknown) => boolean>> => ({
  iss: (value) => value === rules.issuer,
  aud: (value) => value === rules.audience || (Array.isArray(value) && value.includes(rules.audience)),
  sub: isText,
  client_id: isText,
  jti: isText,
  exp: isSecond,
  iat: isSecond,
  nbf: (value) => value === undefined || isSecond(value),
  scope: isOptionalText,
  sid: (value) => value === undefined || isText(value),
});

/** @returns the check of all claims but for their time. @throws {VerifyError} `claim_invalid` */
export function createClaimCheck(rules: ClaimRules) {
  const each = Object.entries(claimRules(rules));
  return (claims: Json): AccessTokenClaims => {
    for (const [claim, holds] of each)
      if (!holds(Object.hasOwn(claims, claim) ? claims[claim] : undefined))
        throw new VerifyError('claim_invalid', { claim });
    return { scope: '', ...claims } as unknown as AccessTokenClaims;
  };
}
