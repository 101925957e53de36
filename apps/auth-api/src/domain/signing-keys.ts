/**
 * The keys that sign access tokens: sealed in PostgreSQL, held in memory by every instance. A key is published long before it signs and long
 * after, so that everybody who meets a token knows its key (ADR 15).
 */
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import type { Logger } from 'pino';
import { NotReady } from '../not-ready.ts';
import { Problem } from '../problems.ts';
import type { AuditEvent } from '../store/audit.ts';
import { CLOCK_TOLERANCE } from '../store/revocation-log.ts';
import type { KeyLives, SigningKeyStore, StoredSigningKey } from '../store/signing-keys.ts';
import type { AccessTokenClaims, ClientTokenClaims } from './access-token.ts';
import { createJwtSigner } from './jwt-signer.ts';
import { isKnownAlgorithm, newKey, privateKey, type SigningAlgorithm } from './key-pair.ts';
import type { Keyring } from './keyring.ts';

/** Seconds a verifier may keep the published keys. */
export const JWKS_MAX_AGE = 300;
/** Seconds after which a current key is replaced. NIST SP 800-57 part 1, section 5.3.6 allows 1 to 3 years; a month keeps the way well trodden. */
const ROTATE_AFTER = 30 * 24 * 60 * 60;
/** Seconds an instance goes on with the keys it has read while PostgreSQL is away: what it signs and publishes is at most that old. */
export const BELIEVED_FOR = 60 * 60;
/** Milliseconds between two reads: how soon an instance learns of a change. */
const READ_EVERY = 5000;
/** Milliseconds in which unknown key ids, however many, cost one read. */
const SEARCH_EVERY = 1000;
/** RFC 7638 with SHA-256: 32 bytes in base64url. */
const KID = /^[A-Za-z0-9_-]{43}$/;

/** @param accessTokenTtl seconds. */
export function keyLives(accessTokenTtl: number): KeyLives {
  // An instance may publish what is that old, and a verifier keep it as long as it was told.
  const knownAfter = BELIEVED_FOR + JWKS_MAX_AGE;
  return {
    knownAfter,
    rotateAfter: ROTATE_AFTER,
    // An instance may sign by what is that old.
    retiresFor: BELIEVED_FOR + accessTokenTtl + CLOCK_TOLERANCE,
    // The last verifier to drop the key may have accepted a token just before, and caches that for the token's life; or it can't refetch the
    // keys and keeps the old ones for another JWKS_MAX_AGE (packages/verifier/src/key-set.ts).
    deniedFor: knownAfter + Math.max(accessTokenTtl, JWKS_MAX_AGE) + CLOCK_TOLERANCE,
  };
}

/** The keys as they were read. */
interface KeySet {
  /** {@link SigningKeysOptions.clock} when the read was sent: the set is at least that fresh. */
  asked: number;
  rows: readonly StoredSigningKey[];
  current: StoredSigningKey;
  sign: ReturnType<typeof createJwtSigner>;
  /** Those that verify, by key id (RFC 7517 section 4). */
  published: ReadonlyMap<string, Record<string, string>>;
}

export interface SigningKeysOptions {
  store: SigningKeyStore;
  keyring: Keyring;
  /** Of the keys that are made from now on. */
  alg: SigningAlgorithm;
  /** Writes to the revocation log that what a key has signed is refused. */
  denyKey: (kid: string) => Promise<void>;
  copy: Pick<RevocationCopy, 'deniesKey' | 'epoch'>;
  logger: Pick<Logger, 'info' | 'warn'>;
  /** Milliseconds that only go forward. */
  clock?: () => number;
  /** Milliseconds between two reads. */
  readEvery?: number;
}

export type SigningKeys = ReturnType<typeof createSigningKeys>;

/** Reading that failed is tried again with the next call that needs the keys. */
export function createSigningKeys(options: SigningKeysOptions) {
  const { store, keyring, alg, denyKey, copy, logger } = options;
  const { clock = () => performance.now(), readEvery = READ_EVERY } = options;
  let loaded: KeySet | undefined;
  let reading: Promise<KeySet> | undefined;
  let search: { began: number; found: Promise<KeySet> } | undefined;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let failing = false;
  let algorithmSettled = false;
  /** The epoch whose log names the keys that are revoked. */
  let deniedIn: string | undefined;

  const makeTwo = async () => [await newKey(keyring, alg), await newKey(keyring, alg)] as const;

  async function load(): Promise<KeySet> {
    const asked = clock();
    const rows = await store.read();
    const current = rows.find(({ state }) => state === 'current');
    const next = rows.find(({ state }) => state === 'next');
    // Before a key is added: with another MASTER_KEY it would be one that nobody else can open.
    for (const key of [current, next]) if (key && loaded?.published.has(key.kid) !== true) privateKey(key, keyring);
    if (current && next) return keySet(asked, rows, current);
    await store.fill(await makeTwo());
    return load();
  }

  function keySet(asked: number, rows: readonly StoredSigningKey[], current: StoredSigningKey): KeySet {
    // Most reads find what was there before.
    if (loaded && namesOf(loaded.rows) === namesOf(rows)) return { ...loaded, asked, rows };
    const verifying = rows.filter(
      (key) => key.state !== 'revoked' && !(key.state === 'retiring' && key.due) && isKnownAlgorithm(key.alg),
    );
    return {
      asked,
      rows,
      current,
      sign: createJwtSigner({ kid: current.kid, alg: current.alg, key: privateKey(current, keyring) }),
      published: new Map(
        verifying.map((key) => [key.kid, { ...key.publicJwk, kid: key.kid, alg: key.alg, use: 'sig' }]),
      ),
    };
  }

  /** Reads them; concurrent callers share one read, and a failed one is forgotten. */
  function read(): Promise<KeySet> {
    reading ??= load()
      .then((keys) => {
        loaded = keys;
        return keys;
      })
      .finally(() => {
        reading = undefined;
      });
    return reading;
  }

  /** As they are now: a read that is under way may have begun before the change that is asked about. */
  async function readAnew(): Promise<KeySet> {
    await reading?.catch(() => undefined);
    return read();
  }

  /** @throws what PostgreSQL throws while the keys are not known, or were last read longer ago than so many seconds. */
  async function known(believedFor = BELIEVED_FOR): Promise<KeySet> {
    if (loaded && clock() - loaded.asked < believedFor * 1000) return loaded;
    return read();
  }

  /** The same, the current key not revoked: the revocation log is quicker than the next read. */
  async function signing(): Promise<KeySet> {
    const keys = await known();
    if (!copy.deniesKey(keys.current.kid)) return keys;
    const { current, ...anew } = await readAnew();
    if (copy.deniesKey(current.kid)) throw new NotReady(`the signing key ${current.kid} is revoked and still current`);
    return { current, ...anew };
  }

  /** Reads once per {@link SEARCH_EVERY}; whoever asks meanwhile is told what was found then. */
  async function searched(kid: string): Promise<Record<string, string> | undefined> {
    if (!KID.test(kid)) return undefined;
    if (!search || clock() - search.began >= SEARCH_EVERY) search = { began: clock(), found: read() };
    return (await search.found).published.get(kid);
  }

  /**
   * A next key of another algorithm than is asked for is replaced once, as an instance starts: two that were told different ones would replace
   * each other's for ever. (A rotation does it too.)
   */
  async function settleAlgorithm(rows: readonly StoredSigningKey[]): Promise<boolean> {
    const settled = algorithmSettled || !rows.some((key) => key.state === 'next' && key.alg !== alg);
    const replaced = !settled && (await store.replaceNext(await newKey(keyring, alg)));
    algorithmSettled = true;
    if (replaced) logger.info({ alg }, 'the next signing key is one of another algorithm');
    return replaced;
  }

  /** The instance that revoked it may have ended before it was in the log, and Redis may have lost it since. */
  async function denyRevoked(rows: readonly StoredSigningKey[]): Promise<void> {
    const epoch = copy.epoch()?.id;
    for (const { kid, state } of rows)
      if (state === 'revoked' && (epoch !== deniedIn || !copy.deniesKey(kid))) await denyKey(kid);
    deniedIn = epoch;
  }

  /** What time has made due: every instance does it, and one of them does it first. @returns whether the keys are others now. */
  async function upkeep({ rows }: KeySet): Promise<boolean> {
    const isDue = (state: StoredSigningKey['state']) => rows.some((key) => key.state === state && key.due);
    let changed = await settleAlgorithm(rows);
    if (isDue('current') && isDue('next')) {
      const outcome = await store.rotate(await newKey(keyring, alg), 'due', BY_AGE);
      logger.info({ outcome }, 'the signing key is old');
      changed = true;
    }
    if (isDue('retiring')) changed = (await store.forget()) > 0 || changed;
    await denyRevoked(rows);
    return changed;
  }

  async function round(): Promise<void> {
    try {
      if (await upkeep(await readAnew())) await readAnew();
      failing = false;
    } catch (error) {
      if (!failing) logger.warn({ err: error }, 'what became of the signing keys is not known at the moment');
      failing = true;
    }
    if (!stopped) timer = setTimeout(round, readEvery);
  }

  return {
    /** Resolves once something can be signed. @throws what PostgreSQL throws; {@link NotReady} */
    ensure: signing,

    /** @throws what PostgreSQL throws while keys are not known. */
    sign: async (claims: AccessTokenClaims | ClientTokenClaims): Promise<string> => (await signing()).sign(claims),

    /** RFC 7517: the keys that sign, will or did. */
    async jwks(): Promise<{ keys: Record<string, string>[] }> {
      return { keys: [...(await known()).published.values()].filter(({ kid = '' }) => !copy.deniesKey(kid)) };
    },

    /** The public key a token names; undefined for one that is not ours, or was revoked. @throws what PostgreSQL throws while that is not known. */
    async publicJwk(kid: string): Promise<Record<string, string> | undefined> {
      if (copy.deniesKey(kid)) return undefined;
      // For as long as verifiers believe it, and no longer: after that the log forgets which keys are revoked.
      return (await known(BELIEVED_FOR + JWKS_MAX_AGE)).published.get(kid) ?? (await searched(kid));
    },

    list: store.list,

    /**
     * The next key signs from now on; verifiers know it already.
     * @throws {Problem} `signing_key_too_young` while they do not: another rotation has just been made, or the algorithm has changed.
     */
    async rotate(event: AuditEvent): Promise<{ kid: string; retiring: string }> {
      await known();
      const outcome = await store.rotate(await newKey(keyring, alg), 'asked', event);
      await readAnew();
      if (outcome.status === 'rotated') return { kid: outcome.kid, retiring: outcome.retiring };
      const since = outcome.status === 'too_young' ? `; it may sign from ${outcome.signsFrom.toISOString()} on` : '';
      throw new Problem('signing_key_too_young', { detail: `Not every verifier knows the next key yet${since}` });
    },

    /**
     * Has every token signed by a key refused everywhere; another one signs from now on. May be repeated: that completes one that failed.
     * @throws {Problem} `signing_key_unknown`
     * @throws what PostgreSQL or Redis throws: then it may not be reported as revoked.
     */
    async revoke(kid: string, event: AuditEvent): Promise<void> {
      await known();
      // First where it can't be lost: from then on nobody loads it, and what is missing in the log is put there by whoever reads.
      if (!KID.test(kid) || !(await store.revoke(kid, await makeTwo(), event)))
        throw new Problem('signing_key_unknown');
      await denyKey(kid);
      await readAnew();
    },

    /** Reads now and then, in the background: a service that starts before its database must still start. */
    start: (): void => void round(),
    stop(): void {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

const BY_AGE: AuditEvent = {
  type: 'signing_key.rotated',
  actor: { type: 'system', id: null },
  userId: null,
  context: null,
};

/** What a set of keys can do follows from this. */
const namesOf = (rows: readonly StoredSigningKey[]): string =>
  rows.map(({ kid, state, due }) => `${kid} ${state} ${due}`).join();
