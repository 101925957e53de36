/** The corpus of hostile tokens of `packages/verifier`, signed with the app's own key and sent to it. */
import { createPrivateKey, createPublicKey, type JsonWebKey } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hostileTokens } from '../../../packages/verifier/test/hostile-tokens.ts';
import { changed, changes } from '../../../packages/verifier/test/malleable.ts';
import { goodClaims, goodHeader, signed, type TestKey } from '../../../packages/verifier/test/signing.ts';
import { createKeyring } from '../src/domain/keyring.ts';
import { databaseProbe } from './mail-probe.ts';
import { MASTER_KEY, PUBLIC_URL, startTestApp, type TestApp } from './test-app.ts';

/** Milliseconds for one refusal, on a machine that does other things too. */
const SLOW = 1000;

let api: TestApp;
let key: TestKey;
let claims: ReturnType<typeof goodClaims>;

beforeAll(async () => {
  api = await startTestApp();
  const database = databaseProbe(api.databaseUrl);
  const [row] = await database.rows(
    "SELECT kid, public_jwk, sealed_private_key FROM signing_keys WHERE state = 'current'",
  );
  await database.close();
  const {
    kid,
    public_jwk: jwk,
    sealed_private_key: sealed,
  } = row as { kid: string; public_jwk: JsonWebKey; sealed_private_key: Buffer };
  const pkcs8 = createKeyring(MASTER_KEY).unseal(sealed, kid);
  key = {
    kid,
    alg: 'ES256',
    privateKey: createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }),
    publicKey: createPublicKey({ key: jwk, format: 'jwk' }),
    jwk: { ...jwk, kid, alg: 'ES256' },
  };
  // Issued a moment after the epoch began.
  claims = goodClaims({ iss: PUBLIC_URL, aud: PUBLIC_URL }, Date.now() + 1000);
});
afterAll(() => api.close());

/** Asks with it. @returns the status and the code of the refusal. */
async function refusal(token: string, name: string): Promise<[status: number, code: unknown]> {
  const began = performance.now();
  const response = await api.get('/v1/verify', token);
  expect(performance.now() - began, name).toBeLessThan(SLOW);
  return [response.statusCode, response.statusCode === 200 ? undefined : response.json().code];
}

test('each is refused with 401, in time; only what it was made of is accepted', async () => {
  expect((await api.get('/v1/verify', signed(goodHeader(key), claims, key))).statusCode).toBe(200);
  const vectors = hostileTokens({ key, claims });
  expect(vectors.length).toBeGreaterThan(150);
  for (const { name, token } of vectors) {
    const code = name.startsWith('issued before anything is known') ? 'session_revoked' : 'invalid_token';
    expect(await refusal(token, name), name).toEqual([401, code]);
  }
});

test('whatever is changed of a good token, it is refused with 401, in time', async () => {
  const token = signed(goodHeader(key), claims, key);
  expect((await api.get('/v1/verify', token)).statusCode).toBe(200);
  await fc.assert(
    fc.asyncProperty(changes, async (some) => {
      const variant = some.reduce(changed, token);
      // Blanks before a token are the header's (RFC 7235 section 2.1).
      fc.pre(variant.replace(/^ +/, '') !== token);
      expect(await refusal(variant, variant)).toEqual([401, 'invalid_token']);
    }),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 500) },
  );
  expect((await api.get('/v1/verify', token)).statusCode).toBe(200);
});
