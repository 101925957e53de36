import {
  createHmac,
  createPublicKey,
  generateKeyPairSync,
  type JsonWebKey,
  sign as signBytes,
  verify as verifyBytes,
} from 'node:crypto';
import { METHODS } from 'node:http';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { activeUser, decoded, logIn } from './accounts.ts';
import { startMailSide, startTestApp, type TestApp, testApp } from './test-app.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
let token: string;

beforeAll(async () => {
  side = await startMailSide();
  api = await startTestApp(side);
  token = (await logIn(api, await activeUser(api))).access_token;
});
afterAll(async () => {
  await api.close();
  await side.stop();
});

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
/** A token with other header members or claims, and whatever signature `sign` makes. */
function forged(sign: (input: Buffer) => Buffer, header: object = {}, claims: object = {}): string {
  const original = decoded(token);
  const input = `${encode({ ...original.header, ...header })}.${encode({ ...original.claims, ...claims })}`;
  return `${input}.${sign(Buffer.from(input)).toString('base64url')}`;
}
const strangerKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const byStranger = (input: Buffer) =>
  signBytes('sha256', input, { key: strangerKey.privateKey, dsaEncoding: 'ieee-p1363' });
const originalSignature = () => Buffer.from(token.split('.')[2] ?? '', 'base64url');

describe('GET /v1/verify', () => {
  test('answers 200 and says who it is', async () => {
    const { claims } = decoded(token);
    const response = await api.get('/v1/verify', token);
    expect(response.statusCode).toBe(200);
    expect(response.body).toBe('');
    expect(response.headers).toMatchObject({
      'x-auth-user': claims.sub,
      'x-auth-session': claims.sid,
      'x-auth-scope': 'account',
      'x-auth-token-expires': new Date(Number(claims.exp) * 1000).toISOString(),
      'cache-control': 'no-store',
    });
  });

  test.each(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const)(
    'answers %s, whatever body a gateway passes on',
    async (method) => {
      const headers = {
        authorization: `Bearer ${token}`,
        ...(!['GET', 'HEAD'].includes(method) && { 'content-type': 'application/x-unheard-of' }),
      };
      const response = await api.app.inject({
        method,
        url: '/v1/verify',
        headers,
        ...(!['GET', 'HEAD'].includes(method) && { payload: '{broken' }),
      });
      expect(response.statusCode).toBe(200);
    },
  );

  // CONNECT is no request to a path: Node hands it to nobody.
  test.each(METHODS.filter((method) => method !== 'CONNECT'))(
    'answers %s, with a content type and without',
    async (method) => {
      const ask = (headers: Record<string, string>) =>
        api.app.inject({ method: method as 'POST', url: '/v1/verify', headers });
      const authorization = `Bearer ${token}`;
      expect((await ask({ authorization })).statusCode).toBe(200);
      expect((await ask({ authorization, 'content-type': 'garbage' })).statusCode).toBe(200);
      expect((await ask({})).statusCode).toBe(401);
    },
  );

  test('answers the paths Envoy appends, and a content type that is none', async () => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'garbage' };
    expect(
      (await api.app.inject({ method: 'POST', url: '/v1/verify/orders/1?x=1', headers, payload: '{' })).statusCode,
    ).toBe(200);
    expect((await api.call('GET', '/v1/verify/orders/1')).statusCode).toBe(401);
  });

  test('asks for the scopes that are needed, all of them', async () => {
    expect((await api.get('/v1/verify?scope=account', token)).statusCode).toBe(200);
    for (const scope of ['admin', 'account%20admin', 'accoun', 'ACCOUNT']) {
      const response = await api.get(`/v1/verify?scope=${scope}`, token);
      expect([response.statusCode, response.json().code]).toEqual([403, 'insufficient_scope']);
      expect(response.headers['www-authenticate']).toContain('error="insufficient_scope"');
    }
    expect((await api.get('/v1/verify?scope=', token)).statusCode).toBe(400);
  });

  test.each<[string, Record<string, string>]>([
    ['without a token', {}],
    ['with another scheme', { authorization: 'Basic ZGV2OmRldg==' }],
    ['with a scheme that begins alike', { authorization: 'Bearers x' }],
  ])('challenges a caller %s, as RFC 6750 says', async (_how, headers) => {
    const response = await api.call('GET', '/v1/verify', undefined, headers);
    expect([response.statusCode, response.json().code]).toEqual([401, 'missing_token']);
    expect(response.headers['www-authenticate']).toBe('Bearer realm="latchkey"');
    expect(response.headers['content-type']).toMatch(/^application\/problem\+json/);
  });

  test.each<[string, () => string]>([
    ['the scheme alone', () => 'Bearer'],
    ['two tokens', () => `Bearer ${token} ${token}`],
    ['something that is no JWT', () => 'Bearer nonsense'],
    ['an empty signature', () => `Bearer ${token.split('.').slice(0, 2).join('.')}.`],
    ['alg none', () => `Bearer ${forged(() => Buffer.alloc(0), { alg: 'none' })}`],
    ['a signature by a stranger', () => `Bearer ${forged(byStranger)}`],
    [
      'a signature by a stranger whose key stands in the header',
      () =>
        `Bearer ${forged(byStranger, { jwk: strangerKey.publicKey.export({ format: 'jwk' }), jku: 'https://evil.example/jwks.json' })}`,
    ],
    [
      'a changed claim',
      () => `Bearer ${forged(originalSignature, {}, { sub: '00000000-0000-4000-8000-000000000000' })}`,
    ],
    ['an unknown kid', () => `Bearer ${forged(byStranger, { kid: 'unknown' })}`],
    ['a kid that is no string', () => `Bearer ${forged(byStranger, { kid: { toString: 'x' } })}`],
    ['no kid', () => `Bearer ${forged(byStranger, { kid: undefined })}`],
  ])('refuses %s', async (_name, authorization) => {
    const response = await api.call('GET', '/v1/verify', undefined, { authorization: authorization() });
    expect([response.statusCode, response.json().code]).toEqual([401, 'invalid_token']);
    expect(response.headers['www-authenticate']).toContain('error="invalid_token"');
  });

  test('refuses the public key used as an HMAC secret', async () => {
    const jwk = (await api.get('/.well-known/jwks.json')).json().keys[0] as JsonWebKey;
    const pem = createPublicKey({ key: jwk, format: 'jwk' }).export({ format: 'pem', type: 'spki' });
    const confused = forged((input) => createHmac('sha256', pem).update(input).digest(), { alg: 'HS256' });
    expect((await api.get('/v1/verify', confused)).statusCode).toBe(401);
  });

  test.each([
    ['another issuer', { PUBLIC_URL: 'https://elsewhere.example', TOKEN_AUDIENCE: 'https://auth.example.test' }],
    ['another audience', { TOKEN_AUDIENCE: 'https://api.example' }],
  ])('refuses a token for %s, signed with the same key', async (_name, env) => {
    const elsewhere = await testApp({ ...side, env });
    expect((await elsewhere.get('/v1/verify', token)).statusCode).toBe(401);
  });

  test('refuses a token that has expired, also one it has seen', async () => {
    const brief = await testApp({ ...side, env: { ACCESS_TOKEN_TTL: '1' } });
    const { access_token } = await logIn(brief, await activeUser(api));
    const expiry = Number(decoded(access_token).claims.exp) * 1000;
    vi.useFakeTimers({ toFake: ['Date'] });
    onTestFinished(() => void vi.useRealTimers());
    vi.setSystemTime(expiry - 1);
    expect((await brief.get('/v1/verify', access_token)).statusCode).toBe(200);
    vi.setSystemTime(expiry);
    expect((await brief.get('/v1/verify', access_token)).statusCode).toBe(401);
  });
});

describe('the signing keys', () => {
  test('are published so that anyone can check a token, and never with their private part', async () => {
    const response = await api.get('/.well-known/jwks.json');
    expect(response.headers['cache-control']).toBe('public, max-age=300');
    const { keys } = response.json() as { keys: (JsonWebKey & { kid: string })[] };
    // The one that signs, and the next one.
    expect(keys).toHaveLength(2);
    expect(Object.keys(keys[0] ?? {}).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y']);
    const jwk = keys.find(({ kid }) => kid === decoded(token).header.kid);
    const [header, claims, signature] = token.split('.');
    const key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
    const checked = verifyBytes(
      'sha256',
      Buffer.from(`${header}.${claims}`),
      { key, dsaEncoding: 'ieee-p1363' },
      Buffer.from(signature ?? '', 'base64url'),
    );
    expect(checked).toBe(true);
  });

  test('are one, however many instances start on an empty database at once', async () => {
    const first = await startTestApp();
    const others = await Promise.all(Array.from({ length: 4 }, () => testApp({ databaseUrl: first.databaseUrl })));
    const kids = await Promise.all(
      [first, ...others].map(async (app) =>
        (await app.get('/.well-known/jwks.json')).json().keys.map(({ kid }: { kid: string }) => kid),
      ),
    );
    expect(new Set(kids.map(String)).size).toBe(1);
    await first.close();
  });

  test.each(['EdDSA', 'RS256'])('can be %s', async (alg) => {
    const own = await startMailSide();
    const app = await startTestApp({ ...own, env: { SIGNING_ALG: alg } });
    try {
      const { access_token } = await logIn(app, await activeUser(app));
      expect(decoded(access_token).header.alg).toBe(alg);
      expect((await app.get('/v1/verify', access_token)).statusCode).toBe(200);
      expect((await app.get('/.well-known/jwks.json')).json().keys[0].alg).toBe(alg);
    } finally {
      await app.close();
      await own.stop();
    }
  });

  test('sealed with another MASTER_KEY leave the app not ready, saying why, and issue nothing', async () => {
    const sealed = await startTestApp();
    expect((await sealed.get('/readyz')).statusCode).toBe(200);
    const wrong = await testApp({
      databaseUrl: sealed.databaseUrl,
      env: { MASTER_KEY: Buffer.alloc(32, 9).toString('base64') },
    });
    const response = await wrong.get('/readyz');
    expect(response.statusCode).toBe(503);
    expect(response.json().checks.signing_keys).toEqual({
      status: 'down',
      reason: expect.stringContaining('MASTER_KEY'),
    });
    const keys = await wrong.get('/.well-known/jwks.json');
    expect([keys.statusCode, keys.json().detail]).toEqual([503, expect.not.stringContaining('MASTER_KEY')]);
    await sealed.close();
  });
});
