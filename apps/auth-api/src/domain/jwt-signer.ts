/** Writes access tokens in the one form the verifier takes (RFC 7515 compact serialisation; ADR 13). */
import { type KeyObject, sign } from 'node:crypto';
import { withLowS } from '@latchkey/verifier/ecdsa';

const signatures = {
  ES256: (input: Buffer, key: KeyObject) => withLowS(sign('sha256', input, { key, dsaEncoding: 'ieee-p1363' })),
  EdDSA: (input: Buffer, key: KeyObject) => sign(null, input, key),
  RS256: (input: Buffer, key: KeyObject) => sign('sha256', input, key),
} as const;

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

export function createJwtSigner({ kid, alg, key }: { kid: string; alg: keyof typeof signatures; key: KeyObject }) {
  // RFC 9068 section 2.1.
  const header = encode({ alg, typ: 'at+jwt', kid });
  return (claims: object): string => {
    const input = `${header}.${encode(claims)}`;
    return `${input}.${signatures[alg](Buffer.from(input), key).toString('base64url')}`;
  };
}
