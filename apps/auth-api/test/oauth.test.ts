import { startRedis } from '@latchkey/dev-stack/redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import type { LightMyRequestResponse } from 'fastify';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { activeUser, decoded, logIn } from './accounts.ts';
import { addClient, addClientAs, basic, clientToken, postForm, type TestClient } from './clients.ts';
import { expectProblem } from './expect-problem.ts';
import { startWire } from './mail-crash/wire.ts';
import { PASSWORD, PUBLIC_URL, startMailSide, startTestApp, type TestApp, testApp } from './test-app.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
/** A second instance on the same stores. */
let other: TestApp;
let gateway: TestClient;
let admin: TestClient;

beforeAll(async () => {
  side = await startMailSide();
  [api, other] = await Promise.all([startTestApp(side), startTestApp(side)]);
  [gateway, admin] = await Promise.all([
    addClient(side.databaseUrl, 'introspect', 'reports:read'),
    addClient(side.databaseUrl, 'admin', 'introspect'),
  ]);
});
afterAll(async () => {
  await Promise.all([api.close(), other.close()]);
  await side.stop();
});

const GRANT = { grant_type: 'client_credentials' };
const introspect = async (token: string, instance = api, client = gateway) =>
  (await postForm(instance, '/oauth/introspect', { token }, client)).json();
const verify = async (token: string, instance = api) => (await instance.get('/v1/verify', token)).statusCode;

/** A refusal for whoever reads RFC 9457, and for whoever reads RFC 6749 section 5.2. */
function expectRefusal(response: LightMyRequestResponse, status: number, error: string, pointer?: string): void {
  expectProblem(response, { status, code: error, ...(pointer !== undefined && { pointer }) });
  expect(response.json()).toMatchObject({ error, error_description: expect.stringMatching(/^[ !#-[\]-~]+$/) });
  expect(response.headers['cache-control']).toBe('no-store');
  if (status === 401) expect(response.headers['www-authenticate']).toMatch(/^Basic realm=/);
}

/** A user with an opaque token. */
async function opaqueLogin(email: string): Promise<string> {
  const response = await api.post('/v1/tokens', { email, password: PASSWORD, token_format: 'opaque' });
  return response.json<{ access_token: string }>().access_token;
}

describe('a token for the client itself', () => {
  test('is an RFC 9068 access token whose subject is the client, without a session', async () => {
    const response = await postForm(api, '/oauth/token', GRANT, gateway);
    expect(response.statusCode).toBe(200);
    // RFC 6749 section 5.1
    expect(response.headers).toMatchObject({ 'cache-control': 'no-store', pragma: 'no-cache' });
    expect(response.json()).toEqual({
      access_token: expect.any(String),
      token_type: 'Bearer',
      expires_in: 600,
      scope: 'introspect reports:read',
    });
    const { header, claims } = decoded(response.json().access_token);
    expect(header).toMatchObject({ typ: 'at+jwt', alg: 'ES256' });
    expect(claims).toEqual({
      iss: PUBLIC_URL,
      aud: PUBLIC_URL,
      sub: gateway.id,
      client_id: gateway.id,
      scope: 'introspect reports:read',
      iat: expect.any(Number),
      exp: Number(claims.iat) + 600,
      jti: expect.stringMatching(/^[\w-]{32}$/),
    });
  });

  test('passes a gateway as the client, held to its scopes, on every instance', async () => {
    const token = await clientToken(api, gateway, 'reports:read');
    const response = await other.get('/v1/verify?scope=reports:read', token);
    expect(response.statusCode).toBe(200);
    expect(response.headers).toMatchObject({ 'x-auth-user': gateway.id, 'x-auth-scope': 'reports:read' });
    expect(response.headers).not.toHaveProperty('x-auth-session');
    expectProblem(await other.get('/v1/verify?scope=introspect', token), { status: 403, code: 'insufficient_scope' });
  });

  test('opens nothing that belongs to a user', async () => {
    const token = await clientToken(api, admin);
    for (const [method, url] of [
      ['GET', '/v1/me'],
      ['GET', '/v1/sessions'],
      ['DELETE', '/v1/sessions'],
      ['DELETE', '/v1/sessions/current'],
    ] as const) {
      const response = await api.call(method, url, undefined, { authorization: `Bearer ${token}` });
      expectProblem(response, { status: 403, code: 'insufficient_scope' });
      expect(response.headers['www-authenticate']).toContain('scope="account"');
    }
  });

  test('never has more scopes than asked for or than the client has', async () => {
    const asked = await postForm(api, '/oauth/token', { ...GRANT, scope: 'reports:read' }, gateway);
    expect(asked.json().scope).toBe('reports:read');
    for (const scope of ['admin', 'introspect admin', 'introspect  reports:read'])
      expectRefusal(await postForm(api, '/oauth/token', { ...GRANT, scope }, gateway), 400, 'invalid_scope');
    const empty = await postForm(api, '/oauth/token', { ...GRANT, scope: '' }, gateway);
    expect(empty.json().scope).toBe('introspect reports:read');
  });

  test('an unknown client, a wrong secret and no credentials are refused alike', async () => {
    const wrong = { id: gateway.id, secret: admin.secret };
    const unknown = { id: 'nobody', secret: gateway.secret };
    for (const client of [wrong, unknown, { id: '', secret: '' }, { id: 'a\u0000b', secret: 'x' }, undefined])
      expectRefusal(await postForm(api, '/oauth/token', GRANT, client), 401, 'invalid_client');
    const headers = (authorization: string) => ({
      authorization,
      'content-type': 'application/x-www-form-urlencoded',
    });
    for (const authorization of ['Basic', 'Basic ??', 'Basic QQ==', 'Basic JTp4', `Bearer ${gateway.secret}`]) {
      const response = await api.app.inject({
        method: 'POST',
        url: '/oauth/token',
        headers: headers(authorization),
        payload: 'grant_type=client_credentials',
      });
      expectRefusal(response, 401, 'invalid_client');
    }
  });

  test('the request is read as RFC 6749 wants it', async () => {
    const post = (payload: string, headers: Record<string, string> = {}) =>
      api.app.inject({
        method: 'POST',
        url: '/oauth/token',
        headers: { authorization: basic(gateway), 'content-type': 'application/x-www-form-urlencoded', ...headers },
        payload,
      });
    const grant = 'grant_type=client_credentials';
    const invalid = async (payload: string, pointer?: string, headers?: Record<string, string>) =>
      expectRefusal(await post(payload, headers), 400, 'invalid_request', pointer);
    expectRefusal(await post('grant_type=password'), 400, 'unsupported_grant_type');
    await invalid('scope=introspect', '/grant_type');
    await invalid('grant_type=&scope=introspect', '/grant_type');
    await invalid('');
    await invalid(`${grant}&grant_type=password`, '/grant_type');
    await invalid(`${grant}&x"\\/~=1&x"\\/~=2`, '/x"\\~1~0');
    await invalid(`${grant}&client_secret=x`, '/client_secret');
    await invalid('{"grant_type":"client_credentials"}', undefined, { 'content-type': 'application/json' });
    for (const rest of ['unknown=1', 'scope=', 'client_secret='])
      expect((await post(`${grant}&${rest}`)).statusCode).toBe(200);
    expectProblem(await post(`grant_type=${'x'.repeat(17_000)}`), { status: 413, code: 'body_too_large' });
    // A client that sends its secret in the body does not authenticate in a way that is supported.
    const inBody = await api.app.inject({
      method: 'POST',
      url: '/oauth/token',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      payload: `${grant}&client_id=${gateway.id}&client_secret=${gateway.secret}`,
    });
    expectRefusal(inBody, 401, 'invalid_client');
  });

  test('a refusal is application/json for whoever asks for that, with the same body', async () => {
    const post = (accept: string) =>
      api.app.inject({
        method: 'POST',
        url: '/oauth/token',
        headers: { accept, 'content-type': 'application/x-www-form-urlencoded', 'x-request-id': 'the-same' },
        payload: 'grant_type=client_credentials',
      });
    const problem = await post('*/*');
    expect(problem.headers).toMatchObject({ vary: 'accept' });
    expectRefusal(problem, 401, 'invalid_client');
    for (const accept of ['application/json', 'text/html, Application/JSON;q=0.9', 'application/json,*/*']) {
      const response = await post(accept);
      expect(response.headers['content-type']).toMatch(/^application\/json(;|$)/);
      expect(response.headers['www-authenticate']).toMatch(/^Basic /);
      expect(response.json()).toEqual(problem.json());
    }
    for (const accept of ['', 'application/problem+json', 'application/json-seq', 'text/html'])
      expectRefusal(await post(accept), 401, 'invalid_client');
  });

  test('id and secret are form-encoded in HTTP Basic', async () => {
    const odd = await addClientAs({ id: 'a b:c%+&=', secret: 'ä b:c%+&=' }, side.databaseUrl, 'reports:read');
    const form = (text: string) => new URLSearchParams([['', text]]).toString().slice(1);
    for (const encode of [encodeURIComponent, form]) {
      const credentials = Buffer.from(`${encode(odd.id)}:${encode(odd.secret)}`).toString('base64');
      const headers = {
        authorization: `Basic ${credentials}`,
        'content-type': 'application/x-www-form-urlencoded',
      };
      const payload = 'grant_type=client_credentials';
      expect((await api.app.inject({ method: 'POST', url: '/oauth/token', headers, payload })).statusCode).toBe(200);
    }
  });
});

describe('introspection', () => {
  test('tells what a user of either token format and a client are', async () => {
    const email = await activeUser(api);
    const { access_token } = await logIn(api, email);
    const { claims } = decoded(access_token);
    expect(await introspect(access_token)).toEqual({ active: true, token_type: 'Bearer', ...claims });
    const opaque = await opaqueLogin(email);
    expect(await introspect(opaque, other)).toMatchObject({
      active: true,
      token_type: 'Bearer',
      sub: claims.sub,
      scope: 'account',
      exp: expect.any(Number),
    });
    const own = await clientToken(api, gateway);
    expect(await introspect(own)).toMatchObject({ active: true, sub: gateway.id, client_id: gateway.id });
  });

  test('says inactive of a token that has expired, though its session lives', async () => {
    const brief = await testApp({ ...side, env: { ACCESS_TOKEN_TTL: '1' } });
    const { access_token } = await logIn(brief, await activeUser(api));
    const expiry = Number(decoded(access_token).claims.exp) * 1000;
    vi.useFakeTimers({ toFake: ['Date'] });
    onTestFinished(() => void vi.useRealTimers());
    vi.setSystemTime(expiry - 1);
    expect(await introspect(access_token, brief)).toMatchObject({ active: true });
    vi.setSystemTime(expiry);
    for (const instance of [brief, api]) expect(await introspect(access_token, instance)).toEqual({ active: false });
  });

  test('says inactive and nothing else of whatever is not good now', async () => {
    const email = await activeUser(api);
    const [ended, cut, live] = [await logIn(api, email), await logIn(api, email), await logIn(api, email)];
    const opaque = await opaqueLogin(email);
    await api.delete('/v1/sessions/current', ended.access_token);
    expect(await introspect(ended.access_token)).toEqual({ active: false });
    expect(await introspect(cut.access_token)).toMatchObject({ active: true });
    // A refresh token must never pass for an access token.
    expect(await introspect(live.refresh_token)).toEqual({ active: false });
    await api.delete('/v1/sessions', live.access_token);
    for (const token of [cut.access_token, live.access_token, opaque])
      expect(await introspect(token)).toEqual({ active: false });
    const signature = live.access_token.slice(0, -4);
    const long = 'A'.repeat(15_000);
    const noise = [
      'x',
      'a.b.c',
      `${signature}AAAA`,
      `lko_${'A'.repeat(91)}`,
      `lkr_${long}`,
      `${live.access_token}${long}`,
    ];
    for (const token of [...noise, `${long}.${long.slice(0, 300)}.A`, '\u0000', 'ä%&=+ "'])
      expect(await introspect(token)).toEqual({ active: false });
    const foreign = await testApp();
    const foreignClient = await addClient(foreign.databaseUrl, 'reports:read');
    expect(await introspect(await clientToken(foreign, foreignClient))).toEqual({ active: false });
  });

  test('asks the store: what Redis no longer has is not active, whatever the copy of the log still thinks', async () => {
    const email = await activeUser(api);
    const [gone, cut] = [await logIn(api, email), await logIn(api, email)];
    const userId = String(decoded(gone.access_token).claims.sub);
    const redis = connectRedis(side.redisUrl, 'queueWorker', () => {});
    try {
      await redis.del(redisKeys().session(userId, gone.session.id));
      expect(await introspect(gone.access_token)).toEqual({ active: false });
      expect(await introspect(cut.access_token)).toMatchObject({ active: true });
      await redis.hset(redisKeys().gate(userId), 'cutoff', (Date.now() + 60_000) * 1000);
      expect(await introspect(cut.access_token)).toEqual({ active: false });
      expect(await verify(cut.access_token)).toBe(200);
    } finally {
      redis.disconnect();
    }
  });

  test('never calls active what another instance was told to refuse, though its own copy of the log has yet to hear of it', async () => {
    const redis = await startRedis();
    onTestFinished(() => redis.stop());
    const followers = new Set<number>();
    let deaf = false;
    const wire = await startWire('redis', redis.port, ({ connection, toServer, text }) => {
      if (toServer && /xread/i.test(text)) followers.add(connection);
      return toServer || !deaf || !followers.has(connection);
    });
    onTestFinished(() => wire.close());
    const near = await testApp({ ...side, redisUrl: redis.url });
    const far = await testApp({ ...side, redisUrl: `redis://127.0.0.1:${wire.port}`, patience: 1 });
    const ask = (token: string) => postForm(far, '/oauth/introspect', { token }, gateway);
    const authorization = `Bearer ${await clientToken(near, admin)}`;
    const ofClient = await clientToken(near, gateway);
    const ofUser = (await logIn(near, await activeUser(near))).access_token;
    const refuse: [token: string, () => Promise<LightMyRequestResponse>][] = [
      [ofClient, () => postForm(near, '/oauth/revoke', { token: ofClient }, gateway)],
      [ofUser, () => near.call('DELETE', `/v1/admin/keys/${decoded(ofUser).header.kid}`, undefined, { authorization })],
    ];
    for (const [token, end] of refuse) {
      await vi.waitFor(async () => expect((await ask(token)).json()).toMatchObject({ active: true }), 10_000);
      deaf = true;
      expect((await end()).statusCode).toBeLessThan(300);
      expectProblem(await ask(token), { status: 503, code: 'dependency_unavailable' });
      deaf = false;
      await vi.waitFor(async () => expect((await ask(token)).json()).toEqual({ active: false }), 10_000);
    }
  });

  test('is refused to a client from the moment it is revoked, on every instance, though it asked just before', async () => {
    const machine = await addClient(side.databaseUrl, 'introspect');
    const ask = async (instance: TestApp, secret = machine.secret) =>
      (await postForm(instance, '/oauth/introspect', { token: 'any' }, { ...machine, secret })).statusCode;
    expect([await ask(api), await ask(other), await ask(api)]).toEqual([200, 200, 200]);
    expect(await ask(api, 'another secret')).toBe(401);
    const authorization = `Bearer ${await clientToken(api, admin)}`;
    const revoked = await api.call('DELETE', `/v1/admin/clients/${machine.id}`, undefined, { authorization });
    expect(revoked.statusCode).toBe(204);
    expect(await ask(api)).toBe(401);
    // As fast as any revocation is known: well before what was read of it is read again.
    await expect.poll(() => ask(other), { interval: 10, timeout: 5000 }).toBe(401);
  });

  test('is for clients with the scope introspect', async () => {
    const plain = await addClient(side.databaseUrl, 'reports:read');
    const form = { token: 'x' };
    expectRefusal(await postForm(api, '/oauth/introspect', form, plain), 403, 'insufficient_scope');
    expectRefusal(await postForm(api, '/oauth/introspect', form), 401, 'invalid_client');
    expectRefusal(await postForm(api, '/oauth/introspect', {}, gateway), 400, 'invalid_request', '/token');
  });

  test('a hint may be wrong', async () => {
    const token = await clientToken(api, gateway);
    for (const token_type_hint of ['access_token', 'refresh_token', 'nonsense', 'x'.repeat(5000), '']) {
      const response = await postForm(api, '/oauth/introspect', { token, token_type_hint }, gateway);
      expect(response.json()).toMatchObject({ active: true, sub: gateway.id });
    }
  });
});

describe('revocation', () => {
  test('ends a client its own token and no other', async () => {
    const [one, two] = [await clientToken(api, gateway), await clientToken(api, gateway)];
    const response = await postForm(api, '/oauth/revoke', { token: one, token_type_hint: 'access_token' }, gateway);
    expect({ status: response.statusCode, body: response.body }).toEqual({ status: 200, body: '' });
    expect(await verify(one)).toBe(401);
    expect(await verify(two)).toBe(200);
    expect(await introspect(one)).toEqual({ active: false });
    expect(await introspect(two)).toMatchObject({ active: true });
  });

  test('is not for tokens of somebody else, unless the client is an operator', async () => {
    const email = await activeUser(api);
    const [one, two] = [await logIn(api, email), await logIn(api, email)];
    const opaque = await opaqueLogin(email);
    const tokens = [one.access_token, two.refresh_token, opaque, await clientToken(api, admin)];
    for (const token of tokens)
      expectRefusal(await postForm(api, '/oauth/revoke', { token }, gateway), 400, 'unauthorized_client');
    expect(await verify(one.access_token)).toBe(200);
    for (const token of tokens) expect((await postForm(api, '/oauth/revoke', { token }, admin)).statusCode).toBe(200);
    for (const token of [one.access_token, two.access_token, opaque, tokens[3] ?? ''])
      expect(await verify(token)).toBe(401);
    // What came of them is dead too.
    for (const { refresh_token } of [one, two])
      expect((await api.post('/v1/tokens/refresh', { refresh_token })).statusCode).toBe(401);
  });

  test('what is no token is as good as ended', async () => {
    for (const token of ['x', 'a.b.c', 'A'.repeat(16_000)])
      expect((await postForm(api, '/oauth/revoke', { token }, gateway)).statusCode).toBe(200);
    expectRefusal(await postForm(api, '/oauth/revoke', { token: 'x' }), 401, 'invalid_client');
  });
});

test('the server says where everything is (RFC 8414)', async () => {
  const response = await api.get('/.well-known/oauth-authorization-server');
  expect(response.json()).toMatchObject({
    issuer: PUBLIC_URL,
    token_endpoint: `${PUBLIC_URL}/oauth/token`,
    introspection_endpoint: `${PUBLIC_URL}/oauth/introspect`,
    revocation_endpoint: `${PUBLIC_URL}/oauth/revoke`,
    jwks_uri: `${PUBLIC_URL}/.well-known/jwks.json`,
    grant_types_supported: ['client_credentials'],
    response_types_supported: [],
    token_endpoint_auth_methods_supported: ['client_secret_basic'],
  });
  expect(response.headers['cache-control']).toBe('public, max-age=300');
});

test('an issuer with a path says so where its clients look, behind the well-known part (RFC 8414 section 3.1)', async () => {
  const path = '/a*b/@us:1/a%20b';
  const issuer = `https://example.test${path}`;
  const below = await testApp({ ...side, env: { PUBLIC_URL: issuer } });
  const metadata = '/.well-known/oauth-authorization-server';
  for (const at of [metadata, metadata + path, `${metadata}${path}?x=1`])
    expect((await below.get(at)).json()).toMatchObject({ issuer });
  for (const at of [`${metadata}/`, `${metadata}/a`, `${metadata}${path}/c`])
    expectProblem(await below.get(at), { status: 404, code: 'not_found' });
  expectProblem(await api.get(`${metadata}/`), { status: 404, code: 'not_found' });
});
