/** Over a real connection: what is answered before Fastify is what the route answers, and only for a token that is good. */
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { startRedis } from '@latchkey/dev-stack/redis';
import { keysOf } from '@latchkey/dev-stack/test-redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { createMetrics } from '../src/metrics.ts';
import { createQuickVerify } from '../src/plugins/quick-verify.ts';
import { createOpaqueTokenUse } from '../src/store/opaque-token-use.ts';
import { activeUser, logIn } from './accounts.ts';
import { PASSWORD, startMailSide, startTestApp, type TestApp, testApp } from './test-app.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
let url: string;

beforeAll(async () => {
  side = await startMailSide();
  api = await startTestApp(side);
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await api.close();
  await side.stop();
});

const newToken = async () => (await logIn(api, await activeUser(api))).access_token;
const ask = (token: string, path = '/v1/verify', headers: Record<string, string> = {}) =>
  fetch(`${url}${path}`, { headers: { authorization: `Bearer ${token}`, ...headers } });
/** The store, without what is in front of it. */
function store() {
  const redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
  onTestFinished(() => redis.disconnect());
  const rules = { OPAQUE_TOKEN_TTL: 3600, RESET_TOKEN_TTL_ON_USE: true, OVERWRITE_NONE_TTL: true };
  return { redis, use: createOpaqueTokenUse(redis, redisKeys(), rules) };
}
/** All that is said, but for what is another at each answer or belongs to the connection. */
const said = (headers: Iterable<[string, unknown]>) =>
  Object.fromEntries(
    [...headers].filter(([name]) => !['date', 'x-request-id', 'connection', 'keep-alive'].includes(name)),
  );
async function counted(): Promise<number> {
  const line =
    /^latchkey_http_request_duration_seconds_count\{route="\/v1\/verify",method="GET",status="200"\} (\d+)$/m;
  return Number(line.exec(await (await fetch(`${url}/metrics`)).text())?.[1] ?? 0);
}

test('the first answer, the second and the route’s say the same', async () => {
  const token = await newToken();
  const first = await ask(token);
  const second = await ask(token);
  const route = await api.get('/v1/verify', token);
  expect([first.status, second.status, route.statusCode]).toEqual([200, 200, 200]);
  expect(await second.text()).toBe('');
  expect(said(second.headers)).toEqual(said(first.headers));
  expect(said(Object.entries(route.headers))).toEqual(said(first.headers));
});

test('a request id that is given is kept, one that is not sane or missing is made; each answer is counted', async () => {
  const token = await newToken();
  await ask(token);
  const before = await counted();
  const given = await ask(token, '/v1/verify', { 'x-request-id': 'gateway-17' });
  expect(given.headers.get('x-request-id')).toBe('gateway-17');
  const made = [await ask(token), await ask(token, '/v1/verify', { 'x-request-id': 'not sane' })];
  const ids = made.map(({ headers }) => headers.get('x-request-id'));
  expect(new Set(ids).size).toBe(2);
  for (const id of ids) expect(id).toMatch(/^[\w-]{8,}$/);
  expect(await counted()).toBe(before + 3);
});

test('a token that was seen is refused once it is revoked, and is asked for its scope', async () => {
  const token = await newToken();
  expect((await ask(token)).status).toBe(200);
  expect((await ask(token)).status).toBe(200);
  expect((await ask(token, '/v1/verify?scope=admin')).status).toBe(403);
  const ended = await api.call('DELETE', '/v1/sessions/current', undefined, { authorization: `Bearer ${token}` });
  expect(ended.statusCode).toBe(204);
  const refused = await ask(token);
  expect(refused.status).toBe(401);
  expect(await refused.json()).toMatchObject({ code: 'session_revoked', request_id: expect.any(String) });
});

test('a token that ends like one that was seen is not that one', async () => {
  const token = await newToken();
  expect((await ask(token)).status).toBe(200);
  const [header, , signature] = token.split('.');
  const claims = Buffer.from(JSON.stringify({ sub: 'somebody else' })).toString('base64url');
  expect((await ask(`${header}.${claims}.${signature}`)).status).toBe(401);
  expect((await ask(token)).status).toBe(200);
});

test('a token that was seen is refused with 503 while the revocations are not known', async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const deaf = await testApp({ ...side, redisUrl: redis.url, env: { REVOCATION_LAG_MAX_MS: '500' } });
  const at = await deaf.app.listen({ host: '127.0.0.1', port: 0 });
  const status = async () => (await fetch(`${at}/v1/verify`, { headers: { authorization: `Bearer ${own}` } })).status;
  const own = (await logIn(deaf, await activeUser(api))).access_token;
  await vi.waitFor(async () => expect(await status()).toBe(200));
  redis.freeze();
  try {
    await vi.waitFor(async () => expect(await status()).toBe(503), { timeout: 10_000 });
  } finally {
    redis.thaw();
  }
  await vi.waitFor(async () => expect(await status()).toBe(200), { timeout: 10_000 });
});

test('an opaque token is answered as by the route, and is refused from its end on', async () => {
  const login = await api.post('/v1/tokens', {
    email: await activeUser(api),
    password: PASSWORD,
    token_format: 'opaque',
  });
  const { access_token: token } = login.json<{ access_token: string }>();
  const [quick, route] = [await ask(token), await api.get('/v1/verify', token)];
  expect([quick.status, route.statusCode]).toEqual([200, 200]);
  const lasting = (headers: Record<string, unknown>) => ({ ...headers, 'x-auth-token-expires': expect.any(String) });
  expect(lasting(said(quick.headers))).toEqual(lasting(said(Object.entries(route.headers))));

  expect((await api.delete('/v1/sessions/current', token)).statusCode).toBe(204);
  expect((await ask(token)).status).toBe(401);
});

test('an opaque token that was seen is said to live as long as it does now', async () => {
  const strict = await testApp({ ...side, env: { RESET_TOKEN_TTL_ON_USE: 'false' } });
  const at = await strict.app.listen({ host: '127.0.0.1', port: 0 });
  const login = await strict.post('/v1/tokens', {
    email: await activeUser(api),
    password: PASSWORD,
    token_format: 'opaque',
  });
  const { access_token: token, session } = login.json<{ access_token: string; session: { id: string } }>();
  const expires = async () =>
    (await fetch(`${at}/v1/verify`, { headers: { authorization: `Bearer ${token}` } })).headers.get(
      'x-auth-token-expires',
    );
  const first = await expires();
  expect(await expires()).toBe(first);

  const redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
  onTestFinished(() => redis.disconnect());
  const [record = ''] = await keysOf(redis, `*:${session.id}`);
  await redis.pexpireat(record, Date.parse('2031-02-03T04:05:06Z'));
  expect(await expires()).toBe('2031-02-03T04:05:06.000Z');
  await redis.persist(record);
  expect(await expires()).toBeNull();
});

test('a refused opaque token was asked for once: the route is told what was heard before', async () => {
  const find = vi.fn(async () => undefined);
  const { quickVerify, findOnce } = createQuickVerify({
    verifier: { verifySeen: () => undefined },
    findOpaqueToken: find,
    metrics: createMetrics(),
  });
  const request = new IncomingMessage(new Socket());
  Object.assign(request, { url: '/v1/verify', method: 'GET', headers: { authorization: 'Bearer lko_any' } });
  const admit = (go: () => void) => go();
  await new Promise<void>((resolve) => quickVerify(request, new ServerResponse(request), admit, resolve));
  await findOnce('lko_any', request);
  expect(find).toHaveBeenCalledTimes(1);
});

test('opaque tokens asked for at the same moment are each told of their own', async () => {
  const email = await activeUser(api);
  const tokens = await Promise.all(
    Array.from({ length: 12 }, async () => {
      const login = await api.post('/v1/tokens', { email, password: PASSWORD, token_format: 'opaque' });
      return login.json<{ access_token: string; session: { id: string } }>();
    }),
  );
  const dead = tokens.filter((_, n) => n % 3 === 0);
  for (const { access_token } of dead) await api.delete('/v1/sessions/current', access_token);
  const answers = await Promise.all(tokens.map(({ access_token }) => ask(access_token)));
  expect(answers.map(({ status, headers }) => [status, headers.get('x-auth-session')])).toEqual(
    tokens.map((token) => (dead.includes(token) ? [401, null] : [200, token.session.id])),
  );
});

test('an opaque token issued before the epoch was born is not found and not renewed, whoever else asks in the same call', async () => {
  const email = await activeUser(api);
  const login = await api.post('/v1/tokens', { email, password: PASSWORD, token_format: 'opaque' });
  const { access_token: token, session } = login.json<{ access_token: string; session: { id: string } }>();
  const userId = (await ask(token)).headers.get('x-auth-user') ?? '';
  const { redis, use } = store();
  const [record = ''] = await keysOf(redis, `*:${session.id}`);
  await redis.pexpire(record, 60_000);
  const tomorrow = (Date.now() + 24 * 60 * 60 * 1000) * 1000;
  expect(await use(userId, session.id, tomorrow)).toBeUndefined();
  expect(await redis.pttl(record)).toBeLessThanOrEqual(60_000);
  const both = await Promise.all([use(userId, session.id, 0), use(userId, session.id, tomorrow)]);
  expect(both).toEqual([expect.objectContaining({ issuedAt: expect.any(Number) }), undefined]);
  expect(await redis.pttl(record)).toBeGreaterThan(60_000);
});

test('an opaque token whose record is damaged fails alone: those in the same call are answered', async () => {
  const email = await activeUser(api);
  const opened = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const login = await api.post('/v1/tokens', { email, password: PASSWORD, token_format: 'opaque' });
      return login.json<{ access_token: string; session: { id: string } }>();
    }),
  );
  const { redis, use } = store();
  const userId = (await ask(opened[0]?.access_token ?? '')).headers.get('x-auth-user') ?? '';
  const [record = ''] = await keysOf(redis, `*:${opened[1]?.session.id}`);
  await redis.set(record, 'no hash');
  const uses = await Promise.allSettled(opened.map(({ session }) => use(userId, session.id, 0)));
  expect(uses.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
  expect((await ask(opened[1]?.access_token ?? '')).status).toBe(503);
});
