/** An issuer for tests: keys, tokens as auth-api writes them, and revocations that are said by hand. */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { withLowS } from '../src/ecdsa.ts';
import type { Algorithm } from '../src/jwt.ts';
import { createRevoked, type Revocations } from '../src/revoked.ts';

export const ISSUER = 'https://auth.example.test';
export const AUDIENCE = 'https://api.example.test';

const generators = {
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
} as const;

export interface TestKey {
  kid: string;
  alg: Algorithm;
  privateKey: KeyObject;
  publicKey: KeyObject;
  jwk: Record<string, unknown>;
}

export function testKey(alg: Algorithm = 'ES256', kid = randomBytes(8).toString('hex')): TestKey {
  const { privateKey, publicKey } = generators[alg]();
  return { kid, alg, privateKey, publicKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig' } };
}

export const encode = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

export function signatureOf(input: string, { alg, privateKey }: Pick<TestKey, 'alg' | 'privateKey'>): Buffer {
  const bytes = Buffer.from(input);
  if (alg === 'ES256') return withLowS(sign('sha256', bytes, { key: privateKey, dsaEncoding: 'ieee-p1363' }));
  return sign(alg === 'RS256' ? 'sha256' : null, bytes, privateKey);
}

/** Signed as it is: header and claims are objects, or text that may be anything. */
export function signed(header: unknown, claims: unknown, key: Pick<TestKey, 'alg' | 'privateKey'>): string {
  const input = `${encode(header)}.${encode(claims)}`;
  return `${input}.${signatureOf(input, key).toString('base64url')}`;
}

/** As the issuer writes it: the instant of issue, then anything. */
export function jtiAt(milliseconds: number): string {
  const bytes = randomBytes(44);
  bytes.writeBigUInt64BE(BigInt(Math.floor(milliseconds * 1000)), 0);
  return bytes.toString('base64url');
}

export function goodClaims(more: object = {}, now = Date.now()) {
  const iat = Math.floor(now / 1000);
  return {
    iss: ISSUER,
    sub: 'ada',
    aud: AUDIENCE,
    exp: iat + 600,
    iat,
    jti: jtiAt(now),
    client_id: 'latchkey',
    sid: randomBytes(16).toString('base64url'),
    scope: 'account',
    orig_iat: iat,
    ...more,
  };
}

export const goodHeader = ({ alg, kid }: Pick<TestKey, 'alg' | 'kid'>) => ({ alg, typ: 'at+jwt', kid });

export const goodToken = (key: TestKey, claims: object = {}): string =>
  signed(goodHeader(key), goodClaims(claims), key);

/** Revocations that are known from the start; `said` says more, `silence` makes them stale. */
export function saidRevocations() {
  const revoked = createRevoked();
  revoked.begin({ id: 'test', born: 0 });
  let fresh = true;
  return {
    said: revoked.apply,
    begin: revoked.begin,
    silence(yes: boolean): void {
      fresh = !yes;
    },
    revocations: {
      fresh: () => fresh,
      lag: () => (fresh ? 0 : Number.POSITIVE_INFINITY),
      denies: revoked.denies,
      changes: revoked.changes,
      close: () => undefined,
    } satisfies Revocations,
  };
}
