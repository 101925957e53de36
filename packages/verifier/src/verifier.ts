/** Is this access token good now? Answered from memory: its signature is checked once, its revocation whenever more was revoked. */
import { createBoundedMap } from './bounded-map.ts';
import { VerifyError } from './errors.ts';
import { createIntrospector, type IntrospectionOptions } from './introspection.ts';
import { type AccessTokenClaims, createClaimCheck, takeApart, verifiedClaims } from './jwt.ts';
import { type KeySet, type KeySource, LONGEST_WINDOW, localKeySet, remoteKeySet } from './key-set.ts';
import { assertNumbers } from './numbers.ts';
import type { Revocations, TokenIdentity } from './revoked.ts';
import { identityOf } from './token-identity.ts';

export type { ClientCredentials } from './client-token.ts';
export type { IntrospectionOptions } from './introspection.ts';
export type { AccessTokenClaims } from './jwt.ts';
export type { Jwk, KeySource } from './key-set.ts';
export type { Epoch, RevocationSource, Revocations, TokenIdentity } from './revoked.ts';

/** Verified tokens that are kept: about 1 KB each. */
const MOST_KEPT = 10_000;
/** Milliseconds; as the contract's REVOCATION_LAG_MAX_MS: a key that is new is asked for as fast as a revocation must be known. */
const JWKS_WINDOW = 2000;
/** Seconds two clocks may differ. */
const CLOCK_TOLERANCE = 60;

export interface VerifierOptions {
  /** `iss`: the issuer's address. */
  issuer: string;
  /** What `aud` must name. */
  audience: string;
  /** Where the issuer's keys are, `<issuer>/.well-known/jwks.json`, or what finds them in this process. */
  jwks: string | URL | KeySource;
  /** Where revocations are heard of: `revocationFeed()` or `revocationsInRedis()`. Closed with the verifier. */
  revocations: Revocations;
  /** The issuer's introspection endpoint, for calls with `stale: 'introspect'`. */
  introspection?: IntrospectionOptions;
  /**
   * Seconds after its issue from which a token is refused, whatever its `exp` (default: never). To be set to ACCESS_TOKEN_TTL where that was
   * lowered: the log remembers revocations only that long.
   */
  maxTokenAge?: number;
  /** Seconds this host's clock may be behind the issuer's where `nbf` is compared (default 60). */
  clockTolerance?: number;
  /** How many verified tokens are kept (default 10 000, about 1 KB each). */
  cacheSize?: number;
  /**
   * Milliseconds between two fetches of the keys, however many tokens name an unknown one (default 2000). To be less than the ten minutes for which
   * keys are believed that were not fetched anew.
   */
  jwksWindow?: number;
  /** Hears of what went wrong in the background; all of it heals by itself. */
  onError?: (error: Error) => void;
}

export interface VerifyOptions {
  /** Scopes that are needed, all of them, separated by spaces. */
  scope?: string | undefined;
  /** While the revocations are not known: refuse (the default), or ask the issuer about this token; without the option `introspection`, refuse. */
  stale?: 'refuse' | 'introspect' | undefined;
}

/** A token of the issuer that is in time, whether it was revoked or not. */
export interface ReadToken {
  readonly claims: AccessTokenClaims;
  readonly identity: TokenIdentity;
  /** Milliseconds: from when on it is refused. */
  readonly expires: number;
}

interface KeptToken extends ReadToken {
  /** As it came: nothing else is good because of it. */
  readonly token: string;
  /** Milliseconds: until when it is kept. */
  readonly until: number;
  /** `revocations.changes()` when it was last found not to be revoked. */
  goodAt: number | undefined;
}

/** Characters at the end of a token by which it is looked up: 192 bits of its signature. */
const END = 32;

export type Verifier = ReturnType<typeof createVerifier>;

/**
 * Returns at once, and begins to fetch the keys; until they and the revocations are known, `verify` throws VerifyErrors of status 503. What it
 * does in the background goes on until `close()`.
 * @throws RangeError for an option that should be a number and is none.
 */
export function createVerifier(options: VerifierOptions) {
  const { issuer, audience, jwks, revocations, introspection } = options;
  const { maxTokenAge = Number.POSITIVE_INFINITY, clockTolerance = CLOCK_TOLERANCE, cacheSize = MOST_KEPT } = options;
  const { jwksWindow: window = JWKS_WINDOW, onError = () => undefined } = options;
  assertNumbers({ maxTokenAge, clockTolerance, cacheSize });
  assertNumbers({ jwksWindow: window }, LONGEST_WINDOW);
  const checkClaims = createClaimCheck({ issuer, audience });
  /**
   * By the token's end, a part of its signature: to look it up by all of its 700 characters would cost more than all the rest. A refusal is
   * never kept: a token may fail only because its key is not known yet.
   */
  const kept = createBoundedMap<KeptToken>(cacheSize);
  const keys: KeySet =
    typeof jwks === 'function'
      ? localKeySet(jwks)
      : remoteKeySet({ url: jwks, window, onError, onKeyGone: () => kept.clear() });
  const introspect = introspection && createIntrospector(introspection);

  function keptRead(token: string): KeptToken | undefined {
    // Whoever calls this without types may have none.
    if (typeof token !== 'string') return undefined;
    const end = token.slice(-END);
    const known = kept.get(end);
    if (known?.token !== token) return undefined;
    const now = Date.now();
    // The timer by which belief in its key ends stands still while the machine sleeps.
    if (known.until > now && keys.believedUntil() > now) return known;
    kept.delete(end);
    return undefined;
  }

  async function authentic(token: string): Promise<ReadToken> {
    const parts = takeApart(token);
    const key = await keys.find(parts.kid);
    const claims = Object.freeze(checkClaims(verifiedClaims(parts, key)));
    Object.freeze(claims.aud);
    const expires = Math.min(claims.exp, claims.iat + maxTokenAge) * 1000;
    return { claims, identity: identityOf(claims, key.kid), expires };
  }

  async function readInTime(token: string): Promise<KeptToken> {
    const known = keptRead(token);
    if (known) return known;
    const read = await authentic(token);
    const now = Date.now();
    if (read.expires <= now) throw new VerifyError('token_expired');
    if ((read.claims.nbf ?? 0) > now / 1000 + clockTolerance) throw new VerifyError('claim_invalid', { claim: 'nbf' });
    // Not for longer than a token lives, though `iat` may lie ahead: once its key is gone it has to be looked for again.
    const until = Math.min(read.expires, now + maxTokenAge * 1000);
    const found: KeptToken = { ...read, token, until, goodAt: undefined };
    kept.set(token.slice(-END), found);
    return found;
  }

  const notKnown = () => new VerifyError('revocations_unknown', { cause: revocations.failure?.() });

  function judge(read: KeptToken, scope: string | undefined): AccessTokenClaims {
    const { claims, identity } = read;
    // A copy that may be out of date can't tell a good token from a revoked one.
    if (!revocations.fresh()) throw notKnown();
    const changes = revocations.changes?.();
    if (changes === undefined || changes !== read.goodAt) {
      if (revocations.denies(identity)) throw new VerifyError('token_revoked');
      read.goodAt = changes;
    }
    if (scope !== undefined) requireScope(claims, scope);
    return claims;
  }

  return {
    /**
     * @returns the claims of a token that is good now: a user's, or a client's, which has no `sid`, and as `sub` the client's id.
     * @throws {VerifyError} for any other; nothing else is thrown, whatever the token is.
     */
    async verify(token: string, { scope, stale }: VerifyOptions = {}): Promise<AccessTokenClaims> {
      const ask = stale === 'introspect' ? introspect : undefined;
      // Before the token is looked at: a verifier that can't know must tell nobody what it is worth.
      if (!ask && !revocations.fresh()) throw notKnown();
      const read = keptRead(token) ?? (await readInTime(token));
      if (!ask || revocations.fresh()) return judge(read, scope);
      if (!(await ask(token))) throw new VerifyError('token_revoked');
      if (scope !== undefined) requireScope(read.claims, scope);
      return read.claims;
    },

    /**
     * The same at once, of a token that was verified before.
     * @returns undefined for one that was not: ask {@link verify}.
     */
    verifySeen(token: string, scope?: string): AccessTokenClaims | undefined {
      const known = keptRead(token);
      return known && judge(known, scope);
    },

    /**
     * What a token of this issuer says, whether it was revoked or not: for callers that ask the store themselves.
     * @param expired also of one whose time is over.
     */
    async read(token: string, { expired = false } = {}): Promise<ReadToken> {
      return expired ? authentic(token) : readInTime(token);
    },

    /** Milliseconds since the revocations were surely known; infinite until they are for the first time. */
    lag: (): number => revocations.lag(),
    /** Whether the revocations are known; while not, every token is refused. */
    fresh: (): boolean => revocations.fresh(),
    /** Ends what it does in the background, and the copy of the revocations. */
    close(): void {
      keys.close();
      revocations.close();
      kept.clear();
    },
  };
}

function requireScope({ scope }: AccessTokenClaims, needed: string): void {
  const held = scope.split(' ');
  if (!needed.split(' ').every((name) => held.includes(name))) throw new VerifyError('insufficient_scope');
}
