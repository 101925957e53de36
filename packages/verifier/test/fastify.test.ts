import fastify from 'fastify';
import { expect, onTestFinished, test } from 'vitest';
import { latchkeyVerifier } from '../src/fastify.ts';
import { createVerifier } from '../src/verifier.ts';
import { AUDIENCE, goodToken, ISSUER, saidRevocations, testKey } from './signing.ts';

async function service() {
  const key = testKey();
  const { revocations, silence } = saidRevocations();
  const verifier = createVerifier({ issuer: ISSUER, audience: AUDIENCE, jwks: () => key.jwk, revocations });
  const app = fastify();
  await app.register(latchkeyVerifier, { verifier });
  app.get(
    '/orders',
    { onRequest: app.requireAccessToken({ scope: 'orders' }) },
    async ({ accessToken }) => accessToken,
  );
  app.get('/open', async ({ accessToken }) => ({ accessToken }));
  onTestFinished(() => app.close());
  const get = (url: string, authorization?: string) =>
    app.inject({ method: 'GET', url, headers: { ...(authorization && { authorization }) } });
  return { get, silence, token: (scope: string) => goodToken(key, { scope }) };
}

test('a route lets in who has its scope, says who it is, and leaves others alone', async () => {
  const { get, token } = await service();
  const response = await get('/orders', `bearer ${token('orders account')}`);
  expect([response.statusCode, response.json().sub]).toEqual([200, 'ada']);
  expect((await get('/open')).json()).toEqual({ accessToken: null });
});

test('others are refused as RFC 6750 says', async () => {
  const { get, token, silence } = await service();
  for (const [authorization, status, code, challenge] of [
    [undefined, 401, 'missing_token', 'Bearer'],
    ['Basic YTpi', 401, 'missing_token', 'Bearer'],
    ['Bearer a b', 401, 'missing_token', 'Bearer'],
    ['Bearer nonsense', 401, 'token_malformed', expect.stringContaining('error="invalid_token"')],
    [`Bearer ${token('account')}`, 403, 'insufficient_scope', 'Bearer error="insufficient_scope", scope="orders"'],
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
