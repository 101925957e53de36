import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VerifyError } from '../src/errors.ts';
import { createVerifier } from '../src/verifier.ts';
import { hostileTokens } from './hostile-tokens.ts';
import { AUDIENCE, encode, goodClaims, goodToken, ISSUER, saidRevocations, testKey } from './signing.ts';

/** Milliseconds for one token, on a machine that does other things too: a signature takes a tenth of one. */
const SLOW = 250;

const key = testKey();
const { revocations, said } = saidRevocations();
void said;
const verifier = createVerifier({
  issuer: ISSUER,
  audience: AUDIENCE,
  // As much as nobody signs with them.
  jwks: (kid) => (kid === key.kid ? key.jwk : undefined),
  revocations: { ...revocations, denies: ({ issuedAt }) => issuedAt === 0 },
});

async function refusal(token: string): Promise<VerifyError> {
  const began = performance.now();
  const error = await verifier.verify(token).then(
    () => new Error('it is accepted'),
    (reason: unknown) => reason,
  );
  expect(performance.now() - began).toBeLessThan(SLOW);
  if (!(error instanceof VerifyError)) throw error;
  return error;
}

test('a token as the issuer writes it is accepted', async () => {
  await expect(verifier.verify(goodToken(key))).resolves.toMatchObject({ sub: 'ada' });
});

test.each(hostileTokens({ key, claims: goodClaims() }))('refused: $name', async ({ token }) => {
  expect((await refusal(token)).status).toBe(401);
  // And not the second time either.
  expect((await refusal(token)).status).toBe(401);
});

/** Ways to write a token in another way. */
const change = fc.oneof(
  fc.record({ how: fc.constant('set'), at: fc.nat(), to: fc.constantFrom(...'AQgwaz09-_+/=. \n\0é．') }),
  fc.record({ how: fc.constant('insert'), at: fc.nat(), to: fc.constantFrom(...'AQgw-_=.+/ \n\t\0') }),
  fc.record({ how: fc.constant('drop'), at: fc.nat(), to: fc.constant('') }),
  fc.record({ how: fc.constant('flip'), at: fc.nat(), to: fc.constantFrom('\x01', '\x20', '\x02') }),
  fc.record({ how: fc.constant('repeat'), at: fc.nat(), to: fc.constant('') }),
);

function changed(token: string, { how, at, to }: { how: string; at: number; to: string }): string {
  const place = at % token.length;
  const [before, here, after] = [token.slice(0, place), token[place] ?? '', token.slice(place + 1)];
  if (how === 'set') return before + to + after;
  if (how === 'insert') return before + to + here + after;
  if (how === 'drop') return before + after;
  if (how === 'repeat') return before + here + here + after;
  return before + String.fromCharCode(here.charCodeAt(0) ^ to.charCodeAt(0)) + after;
}

test.each(['ES256', 'EdDSA', 'RS256'] as const)(
  '%s: one token has one form: whatever is changed of it, it is refused',
  async (alg) => {
    const own = testKey(alg);
    const strict = createVerifier({
      issuer: ISSUER,
      audience: AUDIENCE,
      jwks: (kid) => (kid === own.kid ? own.jwk : undefined),
      revocations,
    });
    const token = goodToken(own);
    await strict.verify(token);
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
        const variant = changes.reduce(changed, token);
        fc.pre(variant !== token);
        await expect(strict.verify(variant)).rejects.toBeInstanceOf(VerifyError);
      }),
      { numRuns: Number(process.env.FUZZ_RUNS ?? 1000) },
    );
  },
);

test('whatever header and claims say, without the signature of the issuer it is refused and nothing else is thrown', async () => {
  await fc.assert(
    fc.asyncProperty(fc.json(), fc.json(), fc.base64String(), async (header, claims, signature) => {
      await refusal(`${encode(header)}.${encode(claims)}.${signature}`);
    }),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 500) },
  );
});
