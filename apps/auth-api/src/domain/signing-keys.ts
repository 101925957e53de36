/** The keys that sign access tokens: made once, sealed in PostgreSQL, held in memory by every instance. */
import { createHash, createPrivateKey, createPublicKey, generateKeyPair, type JsonWebKey } from 'node:crypto';
import { promisify } from 'node:util';
import { createSigner, type SignerSync } from 'fast-jwt';
import { NotReady } from '../not-ready.ts';
import { Problem } from '../problems.ts';
import type { SigningKeyStore, StoredSigningKey } from '../store/signing-keys.ts';
import type { AccessTokenClaims, ClientTokenClaims } from './access-token.ts';
import type { Keyring } from './keyring.ts';

export type SigningAlgorithm = 'ES256' | 'EdDSA' | 'RS256';

/** The required members of each key type, in the order RFC 7638 section 3.2 hashes them. */
const THUMBPRINT_MEMBERS = { EC: ['crv', 'kty', 'x', 'y'], OKP: ['crv', 'kty', 'x'], RSA: ['e', 'kty', 'n'] } as const;

interface LoadedKeys {
  kid: string;
  sign: typeof SignerSync;
  /** PEM by key id, for verifying. */
  publicPems: Map<string, string>;
  jwks: { keys: Record<string, string>[] };
}

export type SigningKeys = ReturnType<typeof createSigningKeys>;

/** @param onError hears why keys could not be loaded; loading is tried again with the next call that needs them. */
export function createSigningKeys(store: SigningKeyStore, keyring: Keyring, alg: SigningAlgorithm) {
  let loaded: LoadedKeys | undefined;
  let loading: Promise<LoadedKeys> | undefined;

  async function load(): Promise<LoadedKeys> {
    let keys = await store.usable();
    if (!keys.some(({ state }) => state === 'current')) {
      await store.addCurrentIfNone(await newKey(keyring, alg));
      keys = await store.usable();
    }
    const current = keys.find(({ state }) => state === 'current');
    if (!current) throw new Error('no current signing key, and none could be added');
    const signed = keys.filter(({ alg: keyAlg }) => keyAlg in KEY_PAIRS);
    return {
      kid: current.kid,
      sign: createSigner({
        key: privatePem(current, keyring),
        algorithm: current.alg,
        kid: current.kid,
        header: { typ: 'at+jwt', alg: current.alg, kid: current.kid },
      }),
      publicPems: new Map(signed.map(({ kid, publicJwk }) => [kid, publicPem(publicJwk)])),
      jwks: { keys: signed.map(({ kid, alg: keyAlg, publicJwk }) => ({ ...publicJwk, kid, alg: keyAlg, use: 'sig' })) },
    };
  }

  /** Loaded once; concurrent callers share one load, and a failed one is forgotten. */
  async function ensure(): Promise<LoadedKeys> {
    if (loaded) return loaded;
    loading ??= load().finally(() => {
      loading = undefined;
    });
    loaded = await loading;
    return loaded;
  }

  return {
    ensure,
    /** @throws what PostgreSQL throws while keys are not loaded yet. */
    async sign(claims: AccessTokenClaims | ClientTokenClaims): Promise<string> {
      return (loaded ?? (await ensure())).sign({ ...claims });
    },
    /** RFC 7517 */
    jwks: async () => (loaded ?? (await ensure())).jwks,
    /** The PEM of a key id a token names. @throws {Problem} `invalid_token` for one that is not ours. */
    async publicPem(kid: string): Promise<string> {
      const pem = (loaded ?? (await ensure())).publicPems.get(kid);
      if (pem === undefined) throw new Problem('invalid_token', { detail: 'it is not signed by a key of this issuer' });
      return pem;
    },
  };
}

const generate = promisify(generateKeyPair);
const KEY_PAIRS = {
  ES256: () => generate('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generate('ed25519', {}),
  // RFC 7518 section 3.3: 2048 bits or larger.
  RS256: () => generate('rsa', { modulusLength: 2048 }),
} as const;

async function newKey(keyring: Keyring, alg: SigningAlgorithm): Promise<Omit<StoredSigningKey, 'state'>> {
  const { publicKey, privateKey } = await KEY_PAIRS[alg]();
  const publicJwk = publicKey.export({ format: 'jwk' }) as Record<string, string>;
  const kid = thumbprint(publicJwk);
  const pkcs8 = privateKey.export({ format: 'der', type: 'pkcs8' });
  return { kid, alg, publicJwk, sealedPrivateKey: keyring.seal(pkcs8, kid) };
}

/** RFC 7638 JWK thumbprint with SHA-256. */
function thumbprint(jwk: Record<string, string>): string {
  const members = THUMBPRINT_MEMBERS[jwk.kty as keyof typeof THUMBPRINT_MEMBERS];
  const canonical = JSON.stringify(Object.fromEntries(members.map((name) => [name, jwk[name]])));
  return createHash('sha256').update(canonical).digest('base64url');
}

function privatePem({ kid, sealedPrivateKey }: StoredSigningKey, keyring: Keyring): string {
  let pkcs8: Buffer;
  try {
    pkcs8 = keyring.unseal(sealedPrivateKey, kid);
  } catch (cause) {
    throw new NotReady(`MASTER_KEY does not open the signing key ${kid}: it was sealed with another one`, { cause });
  }
  return createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' })
    .export({ format: 'pem', type: 'pkcs8' })
    .toString();
}

function publicPem(jwk: Record<string, string>): string {
  return createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' })
    .export({ format: 'pem', type: 'spki' })
    .toString();
}
