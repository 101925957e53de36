import { keysOf, tellAll } from '@latchkey/dev-stack/test-redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { logIn, registeredUser, type TokenResponse } from '../accounts.ts';
import { PASSWORD, startMailSide, startTestApp, type TestApp } from '../test-app.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
let worker: Awaited<ReturnType<typeof side.startWorker>>;
let redis: ReturnType<typeof connectRedis>;

beforeAll(async () => {
  side = await startMailSide();
  [api, worker] = await Promise.all([startTestApp(side), side.startWorker()]);
  redis = connectRedis(side.redisUrl, 'queueWorker', () => {});
});
afterAll(async () => {
  redis.disconnect();
  await Promise.all([api.close(), worker.stop()]);
  await side.stop();
});

/** What could be told from a dump: the token as it is sent, its content alone, and that content as bytes or hexadecimal. */
function spellings(secret: string): string[] {
  const content = /^lk[ro]_/.test(secret) ? secret.slice(4) : secret;
  const bytes = Buffer.from(content, 'base64url');
  return [secret, content, ...(content === secret ? [] : [bytes.toString('latin1'), bytes.toString('hex')])];
}

test('what is at rest opens nothing: no password, key or token stands in Redis, PostgreSQL or a log line', async () => {
  const email = await registeredUser(api, side);
  const key = await side.activationKey(email);
  const first = await logIn(api, email);
  const refreshed = await api.post('/v1/tokens/refresh', { refresh_token: first.refresh_token });
  const second = refreshed.json<TokenResponse>();
  const opaque = await api.post('/v1/tokens', { email, password: PASSWORD, token_format: 'opaque' });
  const terminal = opaque.json<TokenResponse>();
  for (const { access_token } of [first, second, terminal])
    expect((await api.get('/v1/verify', access_token)).statusCode).toBe(200);
  // One is refused and one is ended: neither may leave its token in a log or in what is remembered of it.
  await api.delete(`/v1/sessions/${first.session.id}`, terminal.access_token);
  expect((await api.get('/v1/verify', second.access_token)).statusCode).toBe(401);
  await api.get('/v1/verify', `${terminal.access_token}x`);

  // A compressed value would hide what it holds.
  await tellAll(redis, (server) => server.config('SET', 'rdbcompression', 'no'));
  const dump: string[] = [...api.logs, ...worker.output];
  for (const name of await keysOf(redis, '*')) {
    dump.push(name, (await redis.dumpBuffer(name))?.toString('latin1') ?? '');
  }
  const rows = await api.dumpDatabase();
  dump.push(...rows);
  expect(rows.length).toBeGreaterThan(0);
  const all = dump.join('\n');
  // The dump does show what is there.
  expect(all).toContain(email);
  expect(all).toContain(terminal.session.id);
  expect(all).toContain('lightMyRequest');
  const secrets = [first, second].flatMap(({ access_token, refresh_token }) => [access_token, refresh_token]);
  for (const secret of [PASSWORD, key, ...secrets, terminal.access_token].flatMap(spellings))
    expect(all.includes(secret), secret.slice(0, 6)).toBe(false);
  // Nor the 32 bytes that only its holder knows, by themselves.
  const known = Buffer.from(terminal.access_token.slice(4), 'base64url').subarray(16, 48);
  for (const encoding of ['latin1', 'hex', 'base64', 'base64url'] as const)
    expect(all.includes(known.toString(encoding)), encoding).toBe(false);
});
