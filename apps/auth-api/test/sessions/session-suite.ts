/**
 * What every suite about sessions and tokens stands on: stores of its own, two instances of the app on them, and a clock for single
 * sessions. No mail: accounts are put into the database.
 */

import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { keysOf, startTestRedis } from '@latchkey/dev-stack/test-redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { expect, inject } from 'vitest';
import { createKeyring } from '../../src/domain/keyring.ts';
import { decodeRefreshToken, encodeRefreshToken, type RefreshTokenContent } from '../../src/domain/refresh-token.ts';
import { addUser, type TokenResponse } from '../accounts.ts';
import { addClient, clientToken, postForm } from '../clients.ts';
import { databaseProbe } from '../mail-probe.ts';
import { PASSWORD, startTestApp, type TestApp, testEnvironment } from '../test-app.ts';

export type SessionSuite = Awaited<ReturnType<typeof startSessionSuite>>;

/** What a login with `token_format: "opaque"` answers. */
export interface OpaqueResponse {
  access_token: string;
  expires_in: number | null;
  session: TokenResponse['session'];
  first_session: boolean;
}

export interface ListedSession {
  id: string;
  device_name: string | null;
  user_agent: string | null;
  ip: string;
  token_format: 'jwt' | 'opaque';
  created_at: string;
  last_seen_at: string;
  expires_at: string | null;
  current?: boolean;
}

export interface TestUser {
  id: string;
  email: string;
}

/** Seconds the Redis of a suite claims to have lived, so that a session can be older than its test. */
const LIVED = 90 * 86_400;
/** Milliseconds by which two readings of one expiry may differ: the test asks one after the other. */
const APART = 20_000;

const GLOB = /[[\]{}*?\\]/g;

export async function startSessionSuite(env: Record<string, string> = {}) {
  const [redisServer, database] = await Promise.all([startTestRedis(), createTestDatabase(inject('databaseUrl'))]);
  const stores = { databaseUrl: database.url, redisUrl: redisServer.url };
  const keys = redisKeys();
  const redis = connectRedis(stores.redisUrl, 'queueWorker', () => {});
  const probe = databaseProbe(stores.databaseUrl);
  await redis.hset(keys.epoch, 'id', 'test', 'born', String((Date.now() - LIVED * 1000) * 1000));
  const [api, other] = await Promise.all([startTestApp({ ...stores, env }), startTestApp({ ...stores, env })]);
  const keyring = createKeyring(Buffer.from(testEnvironment(stores).MASTER_KEY, 'base64'));
  const client = await addClient(stores.databaseUrl, 'admin', 'introspect');
  const adminToken = await clientToken(api, client);

  async function login<Answer>(instance: TestApp, email: string, more: object): Promise<Answer> {
    const response = await instance.post('/v1/tokens', { email, password: PASSWORD, ...more });
    if (response.statusCode !== 200) throw new Error(`login answered ${response.statusCode} ${response.body}`);
    return response.json();
  }

  function contentOf({ refresh_token }: { refresh_token: string }): RefreshTokenContent {
    const content = decodeRefreshToken(keyring, refresh_token);
    if (!content) throw new Error('not a refresh token of this system');
    return content;
  }

  /** What the operators' list says: asking it uses no token of the user. */
  async function listed(userId: string): Promise<ListedSession[]> {
    const response = await act('GET', `/users/${userId}/sessions`);
    if (response.statusCode !== 200) throw new Error(`the list answered ${response.statusCode} ${response.body}`);
    return response.json<{ sessions: ListedSession[] }>().sessions;
  }

  /** Moves instants (microseconds) a session holds in these fields, and those of its earlier rotations, as far as it has them. */
  async function moveBack(key: string, fields: readonly string[], seconds: number): Promise<void> {
    const session = await redis.hgetall(key);
    const back = (us: string | undefined) => String(Number(us) - seconds * 1_000_000);
    for (const field of fields) if (session[field] !== undefined) await redis.hset(key, field, back(session[field]));
    if (session.earlier !== undefined)
      await redis.hset(
        key,
        'earlier',
        session.earlier.replaceAll(/=(\d+)/g, (_match, us) => `=${back(us)}`),
      );
  }

  const act = (method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, payload?: object) =>
    api.call(method, `/v1/admin${path}`, payload, { authorization: `Bearer ${adminToken}` });

  return {
    stores,
    api,
    other,
    redis,
    keys,
    keyring,
    probe,
    /** Calls as an operator. */
    act,
    listed,
    contentOf,

    /** An active account. */
    newUser: (): Promise<TestUser> => addUser(api),

    jwt: ({ email }: TestUser, device_name?: string, instance = api) =>
      login<TokenResponse>(instance, email, { ...(device_name !== undefined && { device_name }) }),
    opaque: ({ email }: TestUser, device_name?: string, instance = api) =>
      login<OpaqueResponse>(instance, email, {
        token_format: 'opaque',
        ...(device_name !== undefined && { device_name }),
      }),

    /** What a gateway is told of a token: uses it. */
    verify: async (token: string, instance = api) => (await instance.get('/v1/verify', token)).statusCode,
    introspect: async (token: string, instance = api) =>
      (await postForm(instance, '/oauth/introspect', { token }, client)).json<{ active: boolean; exp?: number }>(),

    refresh: (refresh_token: string, instance = api) => instance.post('/v1/tokens/refresh', { refresh_token }),
    /** Refreshes. @throws when the answer is not 200. */
    async refreshed({ refresh_token }: { refresh_token: string }, instance = api): Promise<TokenResponse> {
      const response = await instance.post('/v1/tokens/refresh', { refresh_token });
      if (response.statusCode !== 200) throw new Error(`refresh answered ${response.statusCode} ${response.body}`);
      return response.json();
    },
    /** Status and code of a refresh that must fail. */
    async refusal(refresh_token: string, instance = api): Promise<[number, string | undefined]> {
      const response = await instance.post('/v1/tokens/refresh', { refresh_token });
      return [response.statusCode, response.json().code];
    },

    /** Moves the instants of a session's rotations back, as if they had happened that long ago. */
    async rotatedEarlier(tokens: { refresh_token: string }, seconds: number): Promise<void> {
      const { userId, sessionId } = contentOf(tokens);
      await moveBack(keys.session(userId, sessionId), ['rotated'], seconds);
    },

    /**
     * Lets time pass for one session: its instants move back, and its life is that much shorter. One that has none left is gone, as
     * Redis would have it.
     */
    async age({ id: userId }: TestUser, sessionId: string, seconds: number): Promise<void> {
      const key = keys.session(userId, sessionId);
      if ((await redis.exists(key)) === 0) return;
      await moveBack(key, ['created', 'seen', 'rotated'], seconds);
      const left = await redis.pttl(key);
      if (left < 0) return;
      await redis.zincrby(keys.sessions(userId), -seconds * 1000, sessionId);
      await redis.pexpire(key, left - seconds * 1000);
    },
    /** The refresh token as it would be had it, and its session, been issued that much earlier. */
    earlier(tokens: { refresh_token: string }, seconds: number): { refresh_token: string } {
      const content = contentOf(tokens);
      const us = seconds * 1_000_000;
      return {
        refresh_token: encodeRefreshToken(keyring, {
          ...content,
          createdAt: content.createdAt - us,
          issuedAt: content.issuedAt - us,
        }),
      };
    },

    /** Milliseconds a session still lives; null: for ever; undefined: there is none. */
    async left({ id: userId }: TestUser, sessionId: string): Promise<number | null | undefined> {
      const left = await redis.pttl(keys.session(userId, sessionId));
      return left === -2 ? undefined : left === -1 ? null : left;
    },
    /** The instant (milliseconds) at which the index says a session ends, as Redis spells it. */
    score: ({ id: userId }: TestUser, sessionId: string) => redis.zscore(keys.sessions(userId), sessionId),

    /** Index, sessions and what the API lists are the same, each with the same end; the index outlives them all. */
    async expectAgreement({ id: userId }: TestUser): Promise<void> {
      const prefix = keys.sessionPrefix(userId);
      const hashes = (await keysOf(redis, `${prefix.replaceAll(GLOB, '\\$&')}*`)).map((key) =>
        key.slice(prefix.length),
      );
      // What has expired stays in the index until the next change of the user's sessions, and counts for nothing.
      const index = await redis.zrangebyscore(keys.sessions(userId), Date.now(), '+inf');
      const list = await listed(userId);
      expect(index.toSorted()).toEqual(hashes.toSorted());
      expect(list.map(({ id }) => id).sort()).toEqual(hashes.toSorted());
      const indexLeft = await redis.pttl(keys.sessions(userId));
      for (const { id, expires_at } of list) {
        const left = await redis.pttl(keys.session(userId, id));
        const score = await redis.zscore(keys.sessions(userId), id);
        if (left === -1) {
          expect({ score, expires_at, indexLeft }).toEqual({ score: 'inf', expires_at: null, indexLeft: -1 });
          continue;
        }
        expect(Math.abs(Number(score) - (Date.now() + left))).toBeLessThan(APART);
        expect(Date.parse(expires_at ?? '')).toBe(Number(score));
        if (indexLeft !== -1) expect(indexLeft).toBeGreaterThan(left - APART);
      }
    },

    /** What the audit log holds of a user, once everything noted before this call on that instance is written. */
    async auditTypes({ id, email }: TestUser, instance = api): Promise<string[]> {
      const types = async () => {
        const { events } = (await act('GET', `/audit-events?user_id=${id}&limit=200`)).json();
        return events.map(({ type }: { type: string }) => type) as string[];
      };
      const failed = (all: string[]) => all.filter((type) => type === 'login.failed').length;
      const before = failed(await types());
      await instance.login(email, 'not the password at all');
      await expect.poll(async () => failed(await types()), { timeout: 20_000 }).toBe(before + 1);
      return types();
    },

    async stop(): Promise<void> {
      redis.disconnect();
      await probe.close();
      await Promise.all([api.close(), other.close()]);
      await redisServer.stop();
      await database.drop();
    },
  };
}
