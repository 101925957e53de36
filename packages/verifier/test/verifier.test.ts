import crypto from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import { revocationFeed } from '../src/feed.ts';
import { revocationsInRedis } from '../src/redis.ts';
import { createVerifier, type VerifierOptions } from '../src/verifier.ts';
import {
  AUDIENCE,
  goodClaims,
  goodHeader,
  goodToken,
  ISSUER,
  jtiAt,
  saidRevocations,
  signed,
  testKey,
} from './signing.ts';

/** A verifier of one key in this process, and the hand that says what is revoked. */
function verifierOf(key = testKey(), more: Partial<VerifierOptions> = {}) {
  const { revocations, said, begin, silence } = saidRevocations();
  const verifier = createVerifier({
    issuer: ISSUER,
    audience: AUDIENCE,
    jwks: (kid) => (kid === key.kid ? key.jwk : undefined),
    revocations,
    ...more,
  });
  onTestFinished(() => verifier.close());
  return { verifier, key, said, begin, silence };
}

test.each(['maxTokenAge', 'clockTolerance', 'cacheSize', 'jwksWindow'] as const)(
  '%s that is no number is refused at once: compared with it, everything would be in bounds',
  (option) => {
    for (const value of [Number.NaN, -1, '600' as unknown as number])
      expect(() => verifierOf(testKey(), { [option]: value })).toThrow(`${option} must be a number`);
  },
);

test('a window longer than keys are believed is refused at once', () => {
  for (const jwksWindow of [600_000, 2 ** 31, Number.POSITIVE_INFINITY])
    expect(() => verifierOf(testKey(), { jwksWindow })).toThrow('jwksWindow must be a number');
});

test('a bound of silence that is no number, or none, is refused at once', () => {
  for (const lagMax of [Number.NaN, -1, '2000' as unknown as number, Number.POSITIVE_INFINITY, 3_600_001]) {
    const auth = { token: () => 'token' };
    expect(() => revocationFeed({ url: 'http://127.0.0.1:9', auth, lagMax })).toThrow('lagMax must be a number');
    expect(() => revocationsInRedis({ redis: 'redis://127.0.0.1:9', lagMax })).toThrow('lagMax must be a number');
  }
});

/** A server of this test that answers as it is told. */
async function serve(
  answer: (request: IncomingMessage, response: ServerResponse) => void | Promise<void>,
): Promise<string> {
  const server = createServer((request, response) => void answer(request, response)).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  onTestFinished(() => void server.close().closeAllConnections());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

test.each(['ES256', 'EdDSA', 'RS256'] as const)('%s: a good token is accepted and says who it is', async (alg) => {
  const { verifier, key } = verifierOf(testKey(alg));
  const claims = goodClaims({ aud: ['https://other.example', AUDIENCE], nbf: Math.floor(Date.now() / 1000) });
  await expect(verifier.verify(signed(goodHeader(key), claims, key))).resolves.toEqual(claims);
});

test('what a header offers to be checked with is ignored: the key is the one that kid names', async () => {
  const { verifier, key } = verifierOf();
  const header = { ...goodHeader(key), jwk: testKey().jwk, jku: 'http://127.0.0.1:9/', x5u: 'http://127.0.0.1:9/' };
  await expect(verifier.verify(signed(header, goodClaims(), key))).resolves.toMatchObject({ sub: 'ada' });
});

test('what was verified is kept, and forgotten again when the cache is full', async () => {
  const { verifier, key } = verifierOf(testKey(), { cacheSize: 2 });
  const [first = '', ...others] = Array.from({ length: 3 }, () => goodToken(key));
  expect(verifier.verifySeen(first)).toBeUndefined();
  await verifier.verify(first);
  expect(verifier.verifySeen(first)).toMatchObject({ sub: 'ada' });
  for (const token of others) await verifier.verify(token);
  expect(verifier.verifySeen(first)).toBeUndefined();
});

test('a signature is checked once per token: its key is asked for once, whatever is asked of the token', async () => {
  const key = testKey();
  const jwks = vi.fn((kid: string) => (kid === key.kid ? key.jwk : undefined));
  const { verifier } = verifierOf(key, { jwks });
  const token = goodToken(key);
  for (let n = 0; n < 5; n += 1) await verifier.verify(token, n % 2 === 0 ? {} : { scope: 'account' });
  await verifier.read(token);
  expect(jwks).toHaveBeenCalledTimes(1);
  await verifier.verify(goodToken(key));
  expect(jwks).toHaveBeenCalledTimes(2);
});

test('nobody who got the claims can change what the next one gets', async () => {
  const { verifier, key } = verifierOf();
  const token = goodToken(key);
  const claims = await verifier.verify(token);
  expect(() => Object.assign(claims, { sub: 'root' })).toThrow(TypeError);
  await expect(verifier.verify(token)).resolves.toMatchObject({ sub: 'ada' });
  const { aud } = await verifier.verify(goodToken(key, { aud: [AUDIENCE] }));
  expect(() => Object.assign(aud, ['elsewhere'])).toThrow(TypeError);
});

test('scopes are needed all of them, and as a whole', async () => {
  const { verifier, key } = verifierOf();
  const token = goodToken(key, { scope: 'account reports:read' });
  await expect(verifier.verify(token, { scope: 'reports:read account' })).resolves.toMatchObject({ sub: 'ada' });
  for (const scope of ['reports', 'account admin', 'ACCOUNT', '']) {
    await expect(verifier.verify(token, { scope }), scope).rejects.toMatchObject({
      code: 'insufficient_scope',
      status: 403,
    });
  }
});

test.each<
  [string, (claims: ReturnType<typeof goodClaims>, kid: string) => Parameters<ReturnType<typeof verifierOf>['said']>[0]]
>([
  ['its session', ({ sid }) => ({ sessionId: sid, from: 0, until: 9e9 })],
  ['its session from before it on', ({ sid }) => ({ sessionId: sid, from: 1, until: 9e9 })],
  ['its user', ({ sub }) => ({ userId: sub, cutoff: (Date.now() + 1000) * 1000, until: 9e9 })],
  ['its key', (_claims, kid) => ({ keyId: kid, until: 9e9 })],
])('a token is refused as soon as %s is revoked, though it was verified before', async (_what, revocation) => {
  const { verifier, key, said } = verifierOf();
  const claims = goodClaims();
  const token = signed(goodHeader(key), claims, key);
  await verifier.verify(token);
  expect(verifier.verifySeen(token)).toEqual(claims);
  said(revocation(claims, key.kid));
  await expect(verifier.verify(token)).rejects.toMatchObject({ code: 'token_revoked', status: 401 });
  expect(() => verifier.verifySeen(token)).toThrow(expect.objectContaining({ code: 'token_revoked' }));
});

test('a token is refused as soon as an epoch began after it, though it was verified before', async () => {
  const { verifier, key, begin } = verifierOf();
  const token = goodToken(key);
  await verifier.verify(token);
  expect(verifier.verifySeen(token)).toBeDefined();
  begin({ id: 'another', born: (Date.now() + 1000) * 1000 });
  expect(() => verifier.verifySeen(token)).toThrow(expect.objectContaining({ code: 'token_revoked' }));
});

test('a token that was good is asked about again when more was revoked, and only then', async () => {
  const { revocations, said } = saidRevocations();
  const denies = vi.fn(revocations.denies);
  const { verifier, key } = verifierOf(testKey(), { revocations: { ...revocations, denies } });
  const token = goodToken(key);
  await verifier.verify(token);
  expect(denies).toHaveBeenCalledTimes(1);
  denies.mockClear();
  for (let n = 0; n < 10; n += 1) verifier.verifySeen(token);
  expect(denies).not.toHaveBeenCalled();
  said({ sessionId: 'another', from: 0, until: 9e9 });
  for (let n = 0; n < 10; n += 1) verifier.verifySeen(token);
  expect(denies).toHaveBeenCalledTimes(1);
});

test('of revocations that do not say whether more was revoked, a token is asked about each time', async () => {
  const { revocations, said } = saidRevocations();
  const { changes: _, ...silent } = revocations;
  const { verifier, key } = verifierOf(testKey(), { revocations: silent });
  const claims = goodClaims();
  const token = signed(goodHeader(key), claims, key);
  await verifier.verify(token);
  expect(verifier.verifySeen(token)).toEqual(claims);
  said({ sessionId: claims.sid, from: 0, until: 9e9 });
  expect(() => verifier.verifySeen(token)).toThrow(expect.objectContaining({ code: 'token_revoked' }));
});

test('a client’s token, which has no session, is revoked by its jti', async () => {
  const { verifier, key, said } = verifierOf();
  const jti = jtiAt(Date.now());
  const token = goodToken(key, { sid: undefined, jti });
  await verifier.verify(token);
  said({ sessionId: jti, from: 0, until: 9e9 });
  await expect(verifier.verify(token)).rejects.toMatchObject({ code: 'token_revoked' });
});

test('while the revocations are not known every token is refused, seen or not, good or not', async () => {
  const { verifier, key, silence } = verifierOf();
  const token = goodToken(key);
  await verifier.verify(token);
  silence(true);
  expect(verifier.fresh()).toBe(false);
  for (const one of [token, goodToken(key), 'nonsense'])
    await expect(verifier.verify(one)).rejects.toMatchObject({ code: 'revocations_unknown', status: 503 });
  silence(false);
  await expect(verifier.verify(token)).resolves.toMatchObject({ sub: 'ada' });
});

test('why the revocations are not known is said by whoever knows', async () => {
  const { revocations, silence } = saidRevocations();
  const why = new Error('the issuer answers 503');
  const { verifier, key } = verifierOf(testKey(), { revocations: { ...revocations, failure: () => why } });
  silence(true);
  await expect(verifier.verify(goodToken(key))).rejects.toMatchObject({ code: 'revocations_unknown', cause: why });
});

test('what is no text at all, from a caller without types, is refused as what is no token', async () => {
  const { verifier, silence } = verifierOf(testKey(), {
    introspection: { url: 'http://127.0.0.1:9', client: { id: 'a', secret: 'b' } },
  });
  const asked = [undefined, null, 1, {}, ['a.b.c']] as unknown as string[];
  const refused = { name: 'VerifyError', code: 'token_malformed' };
  for (const token of asked) {
    await expect(verifier.verify(token)).rejects.toMatchObject(refused);
    await expect(verifier.read(token)).rejects.toMatchObject(refused);
    expect(verifier.verifySeen(token)).toBeUndefined();
  }
  silence(true);
  for (const token of asked)
    await expect(verifier.verify(token, { stale: 'introspect' })).rejects.toMatchObject(refused);
});

test('then a call that opted in has the issuer asked, which knows; and only for tokens that it signed', async () => {
  const asked: string[] = [];
  let active: unknown = true;
  const url = await serve(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    asked.push(`${request.headers.authorization} ${new URLSearchParams(body).get('token')}`);
    response.end(JSON.stringify({ active }));
  });
  const client = { id: 'a gateway', secret: 's:ecret' };
  const { verifier, key, silence } = verifierOf(testKey(), { introspection: { url, client } });
  silence(true);
  const token = goodToken(key);
  const options = { stale: 'introspect', scope: 'account' } as const;
  await expect(verifier.verify(token, options)).resolves.toMatchObject({ sub: 'ada' });
  expect(asked).toEqual([`Basic ${Buffer.from('a+gateway:s%3Aecret').toString('base64')} ${token}`]);
  await expect(verifier.verify(token, { ...options, scope: 'admin' })).rejects.toMatchObject({
    code: 'insufficient_scope',
  });
  for (const answer of [false, 'true', undefined]) {
    active = answer;
    await expect(verifier.verify(token, options)).rejects.toMatchObject({ code: 'token_revoked' });
  }
  await expect(verifier.verify(token)).rejects.toMatchObject({ code: 'revocations_unknown' });
  const before = asked.length;
  await expect(verifier.verify(goodToken(testKey('ES256', key.kid)), options)).rejects.toMatchObject({ status: 401 });
  expect(asked).toHaveLength(before);
});

test('who opted in is asked for too when the silence begins while the keys are fetched', async () => {
  const url = await serve((_request, response) => void response.end('{"active":true}'));
  const key = testKey();
  const { verifier, silence } = verifierOf(key, {
    introspection: { url, client: { id: 'a', secret: 'b' } },
    jwks: async () => {
      silence(true);
      return key.jwk;
    },
  });
  await expect(verifier.verify(goodToken(key), { stale: 'introspect' })).resolves.toMatchObject({ sub: 'ada' });
});

test('an issuer that does not answer is no yes', async () => {
  const url = await serve((_request, response) => void response.writeHead(500).end('{"active":true}'));
  const { verifier, key, silence } = verifierOf(testKey(), {
    introspection: { url, client: { id: 'a', secret: 'b' } },
  });
  silence(true);
  const asked = verifier.verify(goodToken(key), { stale: 'introspect' });
  await expect(asked).rejects.toMatchObject({ code: 'introspection_unavailable', status: 503 });
});

test('a token ends with its exp, or earlier with the age the issuer now gives tokens; one seen before too', async () => {
  const { verifier, key } = verifierOf(testKey(), { maxTokenAge: 300 });
  const token = goodToken(key);
  await verifier.verify(token);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 301_000 });
  onTestFinished(() => void vi.useRealTimers());
  expect(verifier.verifySeen(token)).toBeUndefined();
  await expect(verifier.verify(token)).rejects.toMatchObject({ code: 'token_expired' });
  await expect(verifier.read(token, { expired: true })).resolves.toMatchObject({ claims: { sub: 'ada' } });
});

test('a symmetric, small or encrypting key of the set is never used, nor one whose algorithm is another than its type’s', async () => {
  const small = crypto.generateKeyPairSync('rsa', { modulusLength: 1024 });
  const { jwk } = testKey();
  for (const bad of [
    { kty: 'oct', k: 'c2VjcmV0', kid: 'bad' },
    { ...small.publicKey.export({ format: 'jwk' }), kid: 'bad', alg: 'RS256' },
    { ...jwk, kid: 'bad', use: 'enc' },
    { ...jwk, kid: 'bad', alg: 'HS256' },
    { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA', kid: 'bad' },
  ]) {
    const { verifier } = verifierOf(testKey(), { jwks: () => bad });
    await expect(verifier.verify(goodToken(testKey('ES256', 'bad')))).rejects.toMatchObject({ code: 'key_unknown' });
  }
});
