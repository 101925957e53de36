/** The keys of the issuer (RFC 7517): from its address, kept as long as it says, or from whoever holds them in this process. */
import { createPublicKey, type JsonWebKey } from 'node:crypto';
import { VerifyError } from './errors.ts';
import { later, NEVER, now, since } from './instant.ts';
import type { Algorithm, VerificationKey } from './jwt.ts';
import { createReport } from './report.ts';

/** RFC 7517 section 4. */
export interface Jwk {
  readonly [member: string]: unknown;
}

interface Jwks {
  readonly keys: readonly Jwk[];
}

/**
 * Finds a key of the issuer in this process: asked for each token that is seen for the first time, so it answers from memory, with the same
 * object each time.
 */
export type KeySource = (kid: string) => Jwk | undefined | Promise<Jwk | undefined>;

export interface KeySet {
  /** @throws {VerifyError} `key_unknown`, `keys_unavailable`. */
  find(kid: string): Promise<VerificationKey>;
  /** Milliseconds: until when what is known now is believed at most. */
  believedUntil(): number;
  close(): void;
}

/** RFC 7518 section 3.3. */
const SMALLEST_RSA = 2048;
/** The one algorithm of each type of key. A symmetric one (`oct`) has none: no public key ever becomes an HMAC secret. */
const ALGORITHMS: Readonly<Record<string, Algorithm>> = { 'EC P-256': 'ES256', 'OKP Ed25519': 'EdDSA', RSA: 'RS256' };

/** @returns undefined for a key of a kind that is not used here, such as one of a newer release. */
function importKey(jwk: Jwk): VerificationKey | undefined {
  const { kid, kty, crv } = jwk;
  const alg = ALGORITHMS[[kty, crv].filter((part) => part !== undefined).join(' ')];
  if (typeof kid !== 'string' || alg === undefined) return undefined;
  if ((jwk.alg ?? alg) !== alg || (jwk.use ?? 'sig') !== 'sig') return undefined;
  try {
    const key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
    const bits = key.asymmetricKeyDetails?.modulusLength;
    return bits !== undefined && bits < SMALLEST_RSA ? undefined : { kid, alg, key };
  } catch {
    return undefined;
  }
}

function importKeys(jwks: Jwks): Map<string, VerificationKey> {
  if (!Array.isArray(jwks?.keys)) throw new TypeError('the key set has no keys');
  return new Map(jwks.keys.flatMap((jwk) => importKey(jwk) ?? []).map((key) => [key.kid, key]));
}

/** Keys that this process holds. What the source throws is `cause` of `keys_unavailable`. */
export function localKeySet(source: KeySource): KeySet {
  const imported = new WeakMap<Jwk, VerificationKey>();
  return {
    async find(kid) {
      let jwk: Jwk | undefined;
      try {
        jwk = await source(kid);
      } catch (cause) {
        throw new VerifyError('keys_unavailable', { cause });
      }
      const key = jwk && (imported.get(jwk) ?? importKey(jwk));
      if (!jwk || !key) throw new VerifyError('key_unknown');
      imported.set(jwk, key);
      return key;
    },
    believedUntil: () => Number.POSITIVE_INFINITY,
    close: () => undefined,
  };
}

/**
 * Seconds of a set's age after which it is fetched anew, as the issuer's JWKS_MAX_AGE; earlier if its `Cache-Control` says so, but after a
 * window at least.
 */
const KEPT_FOR = 300;
/**
 * Seconds from when the issuer gave it out for which a set is believed: {@link KEPT_FOR}, and five minutes in which fetching it anew may fail.
 * A key may have been revoked up to an hour before it was fetched (the issuer's BELIEVED_FOR), and the log forgets that after 1 h + 660 s at
 * the earliest (ADR 15).
 */
const BELIEVED_FOR = 600;
/** Milliseconds: the set has to be fetched anew before it is believed no more. */
export const LONGEST_WINDOW = (BELIEVED_FOR - 1) * 1000;
/** Milliseconds one fetch may take. */
const PATIENCE = 5000;
/** A set of a dozen RSA keys takes 6 KB. */
const LARGEST = 65_536;

/** Seconds for which an answer may be kept, and for which whatever lies between this and the issuer has kept it (RFC 9111 section 5). */
function agesOf(headers: Headers): { maxAge: number; age: number } {
  const [, maxAge = KEPT_FOR] = /max-age=(\d{1,9})/.exec(headers.get('cache-control') ?? '') ?? [];
  const [age = 0] = /^\d{1,9}$/.exec(headers.get('age') ?? '') ?? [];
  return { maxAge: Number(maxAge), age: Number(age) };
}

export interface RemoteKeySetOptions {
  url: string | URL;
  /** Milliseconds between two fetches, however many tokens name a key that is not known. */
  window: number;
  /** Hears of a fetch that failed; keys that are known stay good for {@link BELIEVED_FOR}. */
  onError: (error: Error) => void;
  /** Told when a key is gone, or all are no longer believed: what was verified with it has to be verified again. */
  onKeyGone: () => void;
}

/** Keys from the issuer's address: fetched at once, and from then on until it is closed. */
export function remoteKeySet({ url, window, onError, onKeyGone }: RemoteKeySetOptions): KeySet {
  const report = createReport(onError);
  let keys: Map<string, VerificationKey> | undefined;
  let fetching: Promise<void> | undefined;
  let fetchedAt = NEVER;
  /** When the issuer gave out the keys that are known. */
  let loadedAt = NEVER;
  /** Why the last fetch failed; then nobody knows whether a key that is not known has come. */
  let failure: Error | undefined;
  let refresh: NodeJS.Timeout | undefined;
  let end: NodeJS.Timeout | undefined;
  const closing = new AbortController();

  /** What was verified with them goes too: a thief's token may live longer than the log knows of its key. */
  function letGo(): void {
    keys = undefined;
    onKeyGone();
  }

  /** @returns seconds for which it may be kept. */
  async function load(): Promise<number> {
    // A cache between would answer a question for a key that has just come with a set from before.
    const headers = { accept: 'application/json', 'cache-control': 'no-cache' };
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(PATIENCE)]);
    const response = await fetch(url, { signal, redirect: 'error', headers });
    if (!response.ok) throw new Error(`${url} answers ${response.status}`);
    const text = await response.text();
    if (text.length > LARGEST) throw new Error(`${url} answers more than ${LARGEST} characters`);
    const found = importKeys(JSON.parse(text) as Jwks);
    if (found.size === 0) throw new Error(`${url} names no key that can be used`);
    const { maxAge, age } = agesOf(response.headers);
    if (age >= BELIEVED_FOR) throw new Error(`${url} answers what is ${age} s old`);
    const gone = [...(keys?.keys() ?? [])].some((kid) => !found.has(kid));
    keys = found;
    failure = undefined;
    loadedAt = later(now(), -age * 1000);
    // A timer, since tokens that were seen before do not ask for their key; and since the clock by which they end may be set back.
    clearTimeout(end);
    end = setTimeout(letGo, (BELIEVED_FOR - age) * 1000).unref();
    if (gone) onKeyGone();
    return Math.min(maxAge, KEPT_FOR) - age;
  }

  /** One fetch at a time, whoever asks. Never throws. */
  function fetchKeys(): Promise<void> {
    fetching ??= load()
      .catch((error: Error) => {
        failure = error;
        if (!closing.signal.aborted) report(error);
        return 0;
      })
      .then((seconds) => {
        fetching = undefined;
        fetchedAt = now();
        if (closing.signal.aborted) return;
        clearTimeout(refresh);
        refresh = setTimeout(fetchKeys, Math.max(seconds * 1000, window)).unref();
      });
    return fetching;
  }

  void fetchKeys();
  return {
    async find(kid) {
      // The timer stands still while the machine sleeps.
      if (keys && since(loadedAt) >= BELIEVED_FOR * 1000) letGo();
      if (!keys?.has(kid) && (fetching || since(fetchedAt) >= window)) await fetchKeys();
      const key = keys?.get(kid);
      if (!key)
        throw keys && !failure
          ? new VerifyError('key_unknown')
          : new VerifyError('keys_unavailable', { cause: failure });
      return key;
    },
    believedUntil: () => loadedAt.wall + BELIEVED_FOR * 1000,
    close() {
      closing.abort();
      clearTimeout(refresh);
      clearTimeout(end);
    },
  };
}
