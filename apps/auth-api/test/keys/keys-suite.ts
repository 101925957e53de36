/** Two instances on one set of stores, an operator and people who are logged in: for what happens to the keys that sign. */
import { randomUUID } from 'node:crypto';
import { startRedis } from '@latchkey/dev-stack/redis';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import type {} from '@latchkey/dev-stack/test-stack';
import { expect, inject, vi } from 'vitest';
import { decoded, logIn, type TokenResponse } from '../accounts.ts';
import { addClient, clientToken, postForm } from '../clients.ts';
import { databaseProbe } from '../mail-probe.ts';
import { hashOf } from '../races/instances.ts';
import { newAddress, PASSWORD, startTestApp, type TestApp, type TestAppOptions } from '../test-app.ts';

export type Keys = Awaited<ReturnType<typeof startKeys>>;

export const kidOf = (token: string): string => String(decoded(token).header.kid);

/** How soon these instances learn of a change; production takes its time. */
const READ_EVERY = 25;
/** A machine with two cores that does other things too. */
export const SOON = { timeout: 15_000, interval: 5 };

export async function startKeys() {
  const [redis, stores] = await Promise.all([startRedis(), createTestDatabase(inject('databaseUrl'))]);
  const options = {
    databaseUrl: stores.url,
    redisUrl: redis.url,
    env: { RATE_LIMITS: 'off', LOG_LEVEL: 'error' },
    signingKeys: { readEvery: READ_EVERY },
  } satisfies TestAppOptions;
  const start = (more: TestAppOptions = {}) =>
    startTestApp({ ...options, ...more, env: { ...options.env, ...more.env } });
  // One after another: which of them makes the first keys is no matter here.
  const both = [await start(), await start()] as const;
  const [api, other] = both;
  const database = databaseProbe(stores.url);
  const admin = await addClient(stores.url, 'admin', 'introspect');
  const passwordHash = hashOf(PASSWORD);

  /** A call of an operator, whose token may have been signed by a key that is revoked by now. */
  async function operate(method: 'GET' | 'POST' | 'DELETE', path: string, instance: TestApp = api) {
    const authorization = `Bearer ${await clientToken(instance, admin, 'admin')}`;
    return instance.call(method, `/v1/admin${path}`, undefined, { authorization });
  }

  const keys = {
    both,
    api,
    other,
    redis,
    database,
    options,
    start,
    operate,

    /** The keys as they are stored, the newest first. */
    stored: () =>
      database.rows<{ kid: string; state: string; alg: string; sealed: number }>(
        'SELECT kid, state, alg, length(sealed_private_key) AS sealed FROM signing_keys ORDER BY created_at DESC, kid',
      ),

    async kidIn(state: string): Promise<string> {
      const [key] = (await keys.stored()).filter((one) => one.state === state);
      if (!key) throw new Error(`there is no ${state} key`);
      return key.kid;
    },

    published: async (instance: TestApp): Promise<string[]> =>
      (await instance.get('/.well-known/jwks.json')).json().keys.map(({ kid }: { kid: string }) => kid),

    /** The time has passed in which everybody learns of the next key. */
    async ripen(): Promise<void> {
      const next = await keys.kidIn('next');
      await vi.waitFor(async () => {
        for (const instance of both) expect(await keys.published(instance)).toContain(next);
      }, SOON);
      await database.rows(`UPDATE signing_keys SET signs_from = now() WHERE state = 'next'`);
    },

    rotate: (instance: TestApp = api) => operate('POST', '/keys/rotation', instance),
    revoke: (kid: string, instance: TestApp = api) => operate('DELETE', `/keys/${kid}`, instance),

    /** Somebody who is logged in. */
    async session(instance: TestApp = api): Promise<TokenResponse> {
      const email = newAddress('keys');
      await database.rows(
        `INSERT INTO users (id, email, email_key, status, password_hash, locale) VALUES ($1, $2, $2, 'active', $3, 'en')`,
        [randomUUID(), email, passwordHash],
      );
      return logIn(instance, email);
    },

    refresh: async (session: TokenResponse, instance: TestApp): Promise<TokenResponse> => {
      const response = await instance.post('/v1/tokens/refresh', { refresh_token: session.refresh_token });
      if (response.statusCode !== 200) throw new Error(`refresh answered ${response.statusCode} ${response.body}`);
      return response.json();
    },

    verify: async (token: string, instance: TestApp): Promise<number> =>
      (await instance.get('/v1/verify', token)).statusCode,

    introspect: async (token: string, instance: TestApp): Promise<boolean> =>
      (await postForm(instance, '/oauth/introspect', { token }, admin)).json().active,

    async stop(): Promise<void> {
      await database.close();
      await Promise.all(both.map((instance) => instance.close()));
      await Promise.all([redis.stop(), stores.drop()]);
    },
  };
  return keys;
}
