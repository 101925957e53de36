/** One signing key: made, sealed, opened, published. */
import { createHash, createPrivateKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { NotReady } from '../not-ready.ts';
import type { Keyring } from './keyring.ts';

export type SigningAlgorithm = 'ES256' | 'EdDSA' | 'RS256';

/** A key pair as it is stored. */
export interface SealedKey {
  /** RFC 7638 thumbprint. */
  kid: string;
  alg: SigningAlgorithm;
  publicJwk: Record<string, string>;
  sealedPrivateKey: Uint8Array;
}

/** The required members of each key type, in the order RFC 7638 section 3.2 hashes them. */
const THUMBPRINT_MEMBERS = { EC: ['crv', 'kty', 'x', 'y'], OKP: ['crv', 'kty', 'x'], RSA: ['e', 'kty', 'n'] } as const;

const generate = promisify(generateKeyPair);
const KEY_PAIRS = {
  ES256: () => generate('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generate('ed25519', {}),
  // RFC 7518 section 3.3: 2048 bits or larger.
  RS256: () => generate('rsa', { modulusLength: 2048 }),
} as const;

/** Whether this release knows the algorithm of a stored key: a newer one may have made it. */
export const isKnownAlgorithm = (alg: string): alg is SigningAlgorithm => Object.hasOwn(KEY_PAIRS, alg);

export async function newKey(keyring: Keyring, alg: SigningAlgorithm): Promise<SealedKey> {
  const { publicKey, privateKey } = await KEY_PAIRS[alg]();
  const publicJwk = publicKey.export({ format: 'jwk' }) as Record<string, string>;
  const kid = thumbprint(publicJwk);
  // A command line would take it for an option, and nobody looks up how to write it while a key has to be revoked.
  if (kid.startsWith('-')) return newKey(keyring, alg);
  const pkcs8 = privateKey.export({ format: 'der', type: 'pkcs8' });
  return { kid, alg, publicJwk, sealedPrivateKey: keyring.seal(pkcs8, kid) };
}

/** RFC 7638 JWK thumbprint with SHA-256. */
function thumbprint(jwk: Record<string, string>): string {
  const members = THUMBPRINT_MEMBERS[jwk.kty as keyof typeof THUMBPRINT_MEMBERS];
  const canonical = JSON.stringify(Object.fromEntries(members.map((name) => [name, jwk[name]])));
  return createHash('sha256').update(canonical).digest('base64url');
}

/** @throws {NotReady} when MASTER_KEY is not the one it was sealed with. */
export function privateKey({ kid, sealedPrivateKey }: SealedKey, keyring: Keyring): KeyObject {
  let pkcs8: Buffer;
  try {
    pkcs8 = keyring.unseal(sealedPrivateKey, kid);
  } catch (cause) {
    throw new NotReady(`MASTER_KEY does not open the signing key ${kid}: it was sealed with another one`, { cause });
  }
  return createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
}
