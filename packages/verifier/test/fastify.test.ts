import fastify from 'fastify';
import { expect, onTestFinished, test } from 'vitest';
import { latchkeyVerifier } from '../src/fastify.ts';
import { createVerifier, type VerifierOptions } from '../src/verifier.ts';
import { AUDIENCE, goodToken, ISSUER, saidRevocations, testKey } from './signing.ts';

async function service(introspection?: VerifierOptions['introspection']) {
  const key = testKey();
  const { revocations, silence, said } = saidRevocations();
  const verifier = createVerifier({
    issuer: ISSUER,
    audience: AUDIENCE,
    jwks: () => key.jwk,
    revocations,
    ...(introspection && { introspection }),
  });
  const app = fastify();
  await app.register(latchkeyVerifier, { verifier });
  app.get(
    '/orders',
    { onRequest: app.requireAccessToken({ scope: 'orders' }) },
    async ({ accessToken }) => accessToken,
  );
  app.get(
    '/payments',
    { onRequest: app.requireAccessToken({ scope: 'orders', stale: 'introspect' }) },
    async ({ accessToken }) => accessToken,
  );
  app.get('/open', async ({ accessToken }) => ({ accessToken }));
  onTestFinished(() => app.close());
  const get = (url: string, authorization?: string) =>
    app.inject({ method: 'GET', url, headers: { ...(authorization && { authorization }) } });
  return { get, silence, said, verifier, token: (scope: string) => goodToken(key, { scope }) };
}

test('a route lets in a token with its scope, says whose it is, and leaves other routes alone', async () => {
  const { get, token } = await service();
  const response = await get('/orders', `bearer ${token('orders account')}`);
  expect([response.statusCode, response.json().sub]).toEqual([200, 'ada']);
  expect((await get('/open')).json()).toEqual({ accessToken: null });
});

test('others are refused as RFC 6750 says', async () => {
  const { get, token, silence } = await service();
  const bearer = 'Bearer realm="latchkey"';
  for (const [authorization, status, code, challenge] of [
    [undefined, 401, 'missing_token', bearer],
    ['Basic YTpi', 401, 'missing_token', bearer],
    ['Bearer a b', 401, 'missing_token', bearer],
    [
      'Bearer nonsense',
      401,
      'token_malformed',
      `${bearer}, error="invalid_token", error_description="The token is not in the form of an access token"`,
    ],
    [`Bearer ${token('account')}`, 403, 'insufficient_scope', `${bearer}, error="insufficient_scope", scope="orders"`],
  ] as const) {
    const response = await get('/orders', authorization);
    expect([response.statusCode, response.json().code, response.headers['www-authenticate']]).toEqual([
      status,
      code,
      challenge,
    ]);
    expect(response.headers['content-type']).toMatch(/^application\/problem\+json/);
  }
  silence(true);
  const response = await get('/orders', `Bearer ${token('orders')}`);
  expect([response.statusCode, response.json().code]).toEqual([503, 'revocations_unknown']);
  expect(response.headers['retry-after']).toBe('1');
});

test('while the revocations are not known a route that opted in has the issuer asked, and only that route', async () => {
  let answer = { active: true };
  const issuer = fastify();
  issuer.addContentTypeParser('application/x-www-form-urlencoded', (_request, _payload, done) => done(null));
  issuer.post('/oauth/introspect', async () => answer);
  onTestFinished(() => issuer.close());
  const url = `${await issuer.listen({ host: '127.0.0.1', port: 0 })}/oauth/introspect`;
  const { get, silence, token } = await service({ url, client: { id: 'orders', secret: 'secret' } });
  const authorization = `Bearer ${token('orders')}`;
  silence(true);
  const statuses = async () => [
    (await get('/payments', authorization)).statusCode,
    (await get('/orders', authorization)).statusCode,
  ];
  expect(await statuses()).toEqual([200, 503]);
  expect((await get('/payments', `Bearer ${token('account')}`)).statusCode).toBe(403);
  answer = { active: false };
  expect(await statuses()).toEqual([401, 503]);
  await issuer.close();
  expect(await statuses()).toEqual([503, 503]);
  silence(false);
  expect(await statuses()).toEqual([200, 200]);
});

test('a token is refused from the moment it is revoked, and the lag is there to be watched', async () => {
  const { get, said, silence, verifier, token } = await service();
  const authorization = `Bearer ${token('orders')}`;
  expect((await get('/orders', authorization)).statusCode).toBe(200);
  said({ userId: 'ada', cutoff: Date.now() * 1000 + 1_000_000, until: 9e9 });
  expect((await get('/orders', authorization)).json().code).toBe('token_revoked');
  expect(verifier.lag()).toBe(0);
  silence(true);
  expect(verifier.lag()).toBe(Number.POSITIVE_INFINITY);
});
