import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { VerifyError } from '../src/errors.ts';
import { createVerifier } from '../src/verifier.ts';
import { hostileTokens } from './hostile-tokens.ts';
import { changed, changes } from './malleable.ts';
import {
  AUDIENCE,
  encode,
  goodClaims,
  goodHeader,
  goodToken,
  ISSUER,
  saidRevocations,
  signed,
  testKey,
} from './signing.ts';

/** Milliseconds of a core for one token: a signature takes a tenth of one. */
const SLOW = 250;

const ALGORITHMS = ['ES256', 'EdDSA', 'RS256'] as const;

/** Where tokens say that keys are: it would answer, and remembers what it was asked for. */
const asked: string[] = [];
const server = createServer(({ url = '' }, response) => {
  asked.push(url);
  response.end(JSON.stringify({ keys: [] }));
}).listen(0, '127.0.0.1');
await new Promise((resolve) => server.once('listening', resolve));
afterAll(() => server.close().closeAllConnections());
const elsewhere = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

/** Asked last of all: what a token had begun to ask for has come before. */
async function expectNobodyAsked(): Promise<void> {
  await fetch(`${elsewhere}/last`);
  expect(asked.splice(0)).toEqual(['/last']);
}

/** An issuer, its verifier, and a check that a token is refused in time and with nothing but a refusal. */
function issuerOf(alg: (typeof ALGORITHMS)[number]) {
  const key = testKey(alg);
  const { revocations } = saidRevocations();
  const verifier = createVerifier({
    issuer: ISSUER,
    audience: AUDIENCE,
    jwks: (kid) => (kid === key.kid ? key.jwk : undefined),
    revocations: { ...revocations, denies: ({ issuedAt }) => issuedAt === 0 },
  });
  async function refusal(token: string): Promise<VerifyError> {
    const began = process.threadCpuUsage();
    const error = await verifier.verify(token).then(
      () => new Error('it is accepted'),
      (reason: unknown) => reason,
    );
    const { user, system } = process.threadCpuUsage(began);
    expect((user + system) / 1000).toBeLessThan(SLOW);
    if (!(error instanceof VerifyError)) throw error;
    return error;
  }
  return { key, verifier, refusal };
}

describe.each(ALGORITHMS)('%s', (alg) => {
  const { key, verifier, refusal } = issuerOf(alg);

  test('a token as the issuer writes it is accepted', async () => {
    await expect(verifier.verify(goodToken(key))).resolves.toMatchObject({ sub: 'ada' });
  });

  test('one that offers keys of its own, and addresses of them, is checked by the one that kid names, and nobody asks there', async () => {
    const jwk = testKey(alg, key.kid).jwk;
    const offers = { jwk, jku: `${elsewhere}/jwks.json`, x5u: `${elsewhere}/cert.pem`, x5c: ['MIIB'] };
    const token = signed({ ...goodHeader(key), ...offers }, goodClaims(), key);
    await expect(verifier.verify(token)).resolves.toMatchObject({ sub: 'ada' });
    await expectNobodyAsked();
  });

  const vectors = hostileTokens({ key, claims: goodClaims(), elsewhere });
  test.each(vectors)('refused: $name', async ({ token }) => {
    expect((await refusal(token)).status).toBe(401);
    // And not the second time either.
    expect((await refusal(token)).status).toBe(401);
  });

  test('of all of them together nobody is asked for a key', async () => {
    for (const { token } of vectors) await refusal(token);
    await expectNobodyAsked();
  });

  test('one token has one form: whatever is changed of it, it is refused', async () => {
    const token = goodToken(key);
    await verifier.verify(token);
    await fc.assert(
      fc.asyncProperty(changes, async (some) => {
        const variant = some.reduce(changed, token);
        fc.pre(variant !== token);
        await refusal(variant);
      }),
      { numRuns: Number(process.env.FUZZ_RUNS ?? 1000) },
    );
  });
});

test('every vector says its class and its source, and no class of RFC 8725 is left out', () => {
  const names = ALGORITHMS.flatMap((alg) =>
    hostileTokens({ key: testKey(alg), claims: goodClaims() }).map(({ name }) => name),
  );
  for (const name of names)
    expect(name).toMatch(
      /^[^:]+: .+ \(((RFC \d+ \d|CVE-\d{4}-\d|CWE-\d|BIP \d|Auth0 \d|OpenID |Wycheproof|ECDSA malleability).*)\)$/,
    );
  const named = new Set(
    names.flatMap((name) => [...(/RFC 8725 ([\d., and]+)/.exec(name)?.[1] ?? '').matchAll(/\d\.\d+/g)].map(String)),
  );
  // Of section 2 the threats, of section 3 the practices against them.
  const sections = [
    ...Array.from({ length: 9 }, (_, n) => `2.${n + 1}`),
    ...Array.from({ length: 12 }, (_, n) => `3.${n + 1}`),
  ];
  expect(sections.filter((section) => !named.has(section))).toEqual([]);
});

test('whatever header and claims say, without the signature of the issuer it is refused and nothing else is thrown', async () => {
  const { refusal } = issuerOf('ES256');
  await fc.assert(
    fc.asyncProperty(fc.json(), fc.json(), fc.base64String(), async (header, claims, signature) => {
      await refusal(`${encode(header)}.${encode(claims)}.${signature}`);
    }),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 500) },
  );
});
