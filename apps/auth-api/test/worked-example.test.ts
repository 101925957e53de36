import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { mastersOf, startTestRedis } from '@latchkey/dev-stack/test-redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { expect, inject, onTestFinished, test } from 'vitest';
import { decoded } from './accounts.ts';
import { addClient, clientToken } from './clients.ts';
import { databaseProbe } from './mail-probe.ts';
import { hashOf } from './races/instances.ts';
import { createIssuer } from './races/issuer.ts';
import { newAddress, PASSWORD, type TestApp, testApp, testEnvironment } from './test-app.ts';

const keys = redisKeys();
// What is known of the revocations counts, however long this machine kept the app from hearing that there are none.
const ENV = { RATE_LIMITS: 'off', MAX_SESSIONS_PER_USER: '5000', REVOCATION_LAG_MAX_MS: '60000' };

/** An app on a Redis and a database of its own, and what counts what is written to them. */
async function stand() {
  const [server, testDatabase] = await Promise.all([startTestRedis(), createTestDatabase(inject('databaseUrl'))]);
  const stores = { databaseUrl: testDatabase.url, redisUrl: server.url };
  const database = databaseProbe(stores.databaseUrl);
  const redis = connectRedis(stores.redisUrl, 'queueWorker', () => undefined);
  const issuer = createIssuer(testEnvironment(stores, ENV));
  onTestFinished(async () => {
    redis.disconnect();
    await issuer.close();
    await database.close();
    await server.stop();
    await testDatabase.drop();
  });
  const api = await testApp({ ...stores, env: ENV });
  const admin = await clientToken(api, await addClient(stores.databaseUrl, 'admin'));

  await database.rows('CREATE TABLE user_updates (id uuid)');
  await database.rows(`CREATE FUNCTION count_update() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO user_updates VALUES (NEW.id); RETURN NEW; END $$`);
  await database.rows('CREATE TRIGGER counted AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION count_update()');

  /** Scripts executed since Redis started: by their SHA-1, or, where a server does not know it yet, by what they say. */
  async function scripts(): Promise<number> {
    const stats = await Promise.all((await mastersOf(redis)).map((server) => server.info('commandstats')));
    const counted = stats
      .flatMap((text) => [...text.matchAll(/^cmdstat_eval(?:sha)?:calls=(\d+).*,failed_calls=(\d+)/gm)])
      .map(([, calls, failed]) => Number(calls) - Number(failed));
    return counted.reduce((sum, count) => sum + count, 0);
  }

  async function writes() {
    return {
      updates: (await database.rows('SELECT FROM user_updates')).length,
      scripts: await scripts(),
      entries: await redis.xlen(keys.revocations),
    };
  }

  return {
    api,
    redis,
    database,

    /** Not registered: its mail would be written to Redis, some time. */
    async account(): Promise<{ id: string; email: string }> {
      const [id, email] = [randomUUID(), newAddress()];
      await database.rows(
        `INSERT INTO users (id, email, email_key, status, password_hash, locale) VALUES ($1, $2, $2, 'active', $3, 'en')`,
        [id, email, hashOf(PASSWORD)],
      );
      return { id, email };
    },

    /** What as many logins would be given. */
    async tokens(userId: string, count: number): Promise<string[]> {
      const generation = await issuer.generation(userId);
      const issued = await Promise.all(Array.from({ length: count }, () => issuer.issue(userId, generation)));
      return issued.map((one) => {
        if (!one) throw new Error('nothing was issued');
        return one.accessToken;
      });
    },

    act: (method: 'POST' | 'PUT', path: string, payload: object) =>
      api.call(method, `/v1/admin${path}`, payload, { authorization: `Bearer ${admin}` }),

    /** What a call writes. */
    async written(call: () => Promise<{ statusCode: number }>) {
      const before = await writes();
      expect((await call()).statusCode).toBeLessThan(300);
      const after = await writes();
      return {
        updates: after.updates - before.updates,
        scripts: after.scripts - before.scripts,
        entries: after.entries - before.entries,
      };
    },
  };
}

/** How many of these tokens are answered how. */
async function answers(api: TestApp, tokens: readonly string[]): Promise<Record<number, number>> {
  const counted: Record<number, number> = {};
  for (const token of tokens) {
    const { statusCode } = await api.get('/v1/verify', token);
    counted[statusCode] = (counted[statusCode] ?? 0) + 1;
    // An injected request needs no I/O: a thousand of them would keep the app from hearing of its revocations.
    await setImmediate();
  }
  return counted;
}

test('1000 tokens, banned from 2 to 5, 500 tokens at 8, ten of them denied', { timeout: 120_000 }, async () => {
  const { api, redis, database, account, tokens, act, written } = await stand();
  const [user, single] = [await account(), await account()];
  const until = new Date(Date.now() + 3_600_000);
  const ban = (id: string) => written(() => act('PUT', `/users/${id}/suspension`, { until: until.toISOString() }));

  // 0
  const early = await tokens(user.id, 1000);
  expect(await answers(api, early)).toEqual({ 200: 1000 });

  // 2
  const banned = await ban(user.id);
  expect(banned.entries).toBe(1);
  expect(await answers(api, early)).toEqual({ 401: 1000 });
  expect((await api.login(user.email)).json()).toMatchObject({ code: 'account_suspended' });
  // As many writes as for one token.
  await tokens(single.id, 1);
  expect(await ban(single.id)).toEqual(banned);
  // (The cut-off and the suspension of one row; the gate and the log.)
  expect(banned).toEqual({ updates: 1, scripts: 2, entries: 1 });

  // 5: not waited for; it passes in both places that know of it.
  const now = Date.now();
  await redis.hset(keys.gate(user.id), 'suspended_until', String(now * 1000));
  await database.rows(
    `UPDATE users SET suspended_until = to_timestamp($2), login_closed_until = least(login_closed_until, to_timestamp($2)) WHERE id = $1`,
    [user.id, now / 1000],
  );
  expect(await answers(api, early)).toEqual({ 401: 1000 });
  expect((await api.login(user.email)).statusCode).toBe(200);

  // 8
  const late = await tokens(user.id, 500);
  expect(await answers(api, late)).toEqual({ 200: 500 });
  const denied = late.slice(0, 10);
  let entries = 0;
  for (const [index, token] of denied.entries()) {
    // By itself, or by its name.
    const named = { jti: String(decoded(token).claims.jti) };
    const wrote = await written(() => act('POST', '/tokens/deny', index % 2 === 0 ? { token } : named));
    entries += wrote.entries;
  }
  expect(entries).toBe(10);
  expect(await answers(api, denied)).toEqual({ 401: 10 });
  expect(await answers(api, late.slice(10))).toEqual({ 200: 490 });
  expect(await answers(api, early)).toEqual({ 401: 1000 });
  expect((await api.login(user.email, PASSWORD)).statusCode).toBe(200);
});
