/** Instances with different ACCESS_TOKEN_TTL side by side, as while it is being changed: what is revoked stays so for as long as it could live. */
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { readEntry } from '@latchkey/verifier/log-entry';
import { expect, onTestFinished, test } from 'vitest';
import { addUser, decoded, logIn } from './accounts.ts';
import { addClient, clientToken } from './clients.ts';
import { testApp } from './test-app.ts';

const LONG = 3600;
/** Between what is issued and what is asked: far more than a request takes. */
const APART = 60;

async function twoLives() {
  const namespace = `latchkey:test-${crypto.randomUUID()}`;
  const long = await testApp({ namespace, env: { ACCESS_TOKEN_TTL: String(LONG) } });
  const { databaseUrl, redisUrl } = long;
  const short = await testApp({ namespace, databaseUrl, redisUrl, env: { ACCESS_TOKEN_TTL: '60' } });
  const redis = connectRedis(redisUrl, 'queueWorker', () => undefined);
  onTestFinished(() => redis.disconnect());
  const { email } = await addUser(long);
  /** The second until which the last line of the log lives. */
  async function lastLineLives(): Promise<number> {
    const [last] = await redis.xrevrange(redisKeys(namespace).revocations, '+', '-', 'COUNT', 1);
    const [name = '', text = ''] = last?.[1] ?? [];
    return readEntry(name, text)?.until ?? 0;
  }
  const now = () => Math.floor(Date.now() / 1000);
  return { long, short, redis, namespace, email, lastLineLives, now };
}

test.each([
  ['one session', '/v1/sessions/current'],
  ['everything', '/v1/sessions'],
])('%s ended by the instance with the shorter life', async (_what, path) => {
  const { long, short, email, lastLineLives, now } = await twoLives();
  const { access_token } = await logIn(long, email);
  expect((await short.delete(path, access_token)).statusCode).toBe(204);
  expect(await lastLineLives()).toBeGreaterThanOrEqual(now() + LONG - APART);
});

test('a token that the instance with the shorter life would think expired is denied', async () => {
  const { long, short, redis, namespace, email, lastLineLives, now } = await twoLives();
  const { access_token } = await logIn(long, email);
  const operator = await clientToken(short, await addClient(short.databaseUrl, 'admin'));
  // Two minutes later, by the instant that stands in the token: as one issued then.
  const { jti } = decoded(access_token).claims as { jti: string };
  const bytes = Buffer.from(jti, 'base64url');
  bytes.writeBigUInt64BE(bytes.readBigUInt64BE() - 120_000_000n);
  const before = await redis.xlen(redisKeys(namespace).revocations);
  const denied = await short.call(
    'POST',
    '/v1/admin/tokens/deny',
    { jti: bytes.toString('base64url'), expires_at: new Date(Date.now() + 1000 * LONG).toISOString() },
    { authorization: `Bearer ${operator}` },
  );
  expect(denied.statusCode, denied.body).toBe(204);
  expect(await redis.xlen(redisKeys(namespace).revocations)).toBe(before + 1);
  expect(await lastLineLives()).toBeGreaterThanOrEqual(now() + LONG - APART);
});

test('the longer life is forgotten once what was issued with it has expired, and not before', async () => {
  const { redis, namespace } = await twoLives();
  const key = redisKeys(namespace).lineLife;
  expect(await redis.get(key)).toBe(String(LONG + 60));
  expect(await redis.ttl(key)).toBeGreaterThan(LONG);
});
