/**
 * What djforge-redis-multitokens (github.com/ToReforge/djforge-redis-multitokens, test_app/demo/tests/test_tokens_auth.py) tests of its
 * tokens, one by one and by its names, through Latchkey's API. Its settings are ours: TIMEOUT is OPAQUE_TOKEN_TTL (None: `none`),
 * RESET_TOKEN_TTL_ON_USER_LOG_IN is RESET_TOKEN_TTL_ON_USE. Where it does something else on purpose, the test says so.
 */

import { createHash } from 'node:crypto';
import { keysOf } from '@latchkey/dev-stack/test-redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type OpaqueResponse, type SessionSuite, startSessionSuite, type TestUser } from '../sessions/session-suite.ts';
import { startTestApp, type TestApp } from '../test-app.ts';

let suite: SessionSuite;
/** TIMEOUT None, and two numbers of it; and None that later numbers do not touch. */
let immortal: TestApp;
let thousand: TestApp;
let twoThousand: TestApp;
let keepsImmortal: TestApp;

beforeAll(async () => {
  suite = await startSessionSuite({ RATE_LIMITS: 'off' });
  const start = (env: Record<string, string>) => startTestApp({ ...suite.stores, env: { RATE_LIMITS: 'off', ...env } });
  [immortal, thousand, twoThousand, keepsImmortal] = await Promise.all([
    start({ OPAQUE_TOKEN_TTL: 'none' }),
    start({ OPAQUE_TOKEN_TTL: '1000' }),
    start({ OPAQUE_TOKEN_TTL: '2000' }),
    start({ OPAQUE_TOKEN_TTL: '1000', OVERWRITE_NONE_TTL: 'false' }),
  ]);
});
afterAll(async () => {
  await Promise.all([immortal, thousand, twoThousand, keepsImmortal].map((app) => app.close()));
  await suite.stop();
});

/** The hash a token is stored by: the first 128 bits of its SHA-256, which are its session's id. */
const hashOf = ({ access_token }: OpaqueResponse) =>
  createHash('sha256').update(access_token).digest().toString('base64url', 0, 16);
const isStored = async (user: TestUser, token: OpaqueResponse) =>
  (await suite.redis.exists(suite.keys.session(user.id, hashOf(token)))) === 1;
/** Expires what the token's own device may: its session. */
const expireToken = ({ access_token }: OpaqueResponse) => suite.api.delete('/v1/sessions/current', access_token);
const expireAllTokens = ({ access_token }: OpaqueResponse) => suite.api.delete('/v1/sessions', access_token);
const countTokens = async ({ id }: TestUser) => (await suite.listed(id)).length;
/** Seconds a token lives, as its user's list says; null: for ever. */
async function ttl({ id }: TestUser, { session }: OpaqueResponse): Promise<number | null> {
  const listed = (await suite.listed(id)).find((one) => one.id === session.id);
  if (!listed) throw new Error('the session is not in the list');
  return listed.expires_at === null ? null : Math.round((Date.parse(listed.expires_at) - Date.now()) / 1000);
}
const expectTtl = async (user: TestUser, token: OpaqueResponse, seconds: number) =>
  expect(Math.abs(((await ttl(user, token)) ?? Number.POSITIVE_INFINITY) - seconds)).toBeLessThan(60);

describe('TestCreateToken', () => {
  test('new token has attributes required: a key, and the user it belongs to', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user);
    expect(token.access_token).toMatch(/^lko_/);
    expect((await suite.api.get('/v1/me', token.access_token)).json()).toMatchObject({ id: user.id });
  });

  test('first token for user is flagged as first device, the second as not', async () => {
    const user = await suite.newUser();
    expect((await suite.opaque(user)).first_session).toBe(true);
    expect((await suite.opaque(user)).first_session).toBe(false);
  });

  test('token is saved correctly: once, under its user', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user);
    expect(await suite.redis.zrange(suite.keys.sessions(user.id), '0', '-1')).toEqual([token.session.id]);
    expect(await isStored(user, token)).toBe(true);
  });

  test('only the token’s hash is saved', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user);
    expect(await isStored(user, token)).toBe(true);
    for (const key of await keysOf(suite.redis, 'latchkey:*')) {
      const value = (await suite.redis.dumpBuffer(key))?.toString('latin1') ?? '';
      expect(`${key}\n${value}`.includes(token.access_token.slice(4)), key).toBe(false);
    }
  });

  test('second hash is saved alongside the first one', async () => {
    const user = await suite.newUser();
    const [first, second] = [await suite.opaque(user), await suite.opaque(user)];
    expect(await countTokens(user)).toBe(2);
    expect(await isStored(user, first)).toBe(true);
    expect(await isStored(user, second)).toBe(true);
  });
});

describe('TestGetUserFromToken', () => {
  test('correct user is found for correct token', async () => {
    const [ada, bob] = [await suite.newUser(), await suite.newUser()];
    const [adas, bobs] = [await suite.opaque(ada), await suite.opaque(bob)];
    for (const [user, token] of [[ada, adas] as const, [bob, bobs] as const])
      expect((await suite.api.get('/v1/verify', token.access_token)).headers['x-auth-user']).toBe(user.id);
  });

  test('a wrong token is refused: without its last, and without its first character', async () => {
    const { access_token } = await suite.opaque(await suite.newUser());
    for (const wrong of [access_token.slice(0, -1), access_token.slice(1)]) expect(await suite.verify(wrong)).toBe(401);
  });
});

describe('TestExpireToken', () => {
  test('token is removed when the user has only one', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user);
    expect((await expireToken(token)).statusCode).toBe(204);
    expect(await countTokens(user)).toBe(0);
    expect(await isStored(user, token)).toBe(false);
    expect(await suite.verify(token.access_token)).toBe(401);
  });

  test('token is removed when the user has several, and the others stay', async () => {
    const user = await suite.newUser();
    const [first, second] = [await suite.opaque(user), await suite.opaque(user)];
    await expireToken(first);
    expect((await suite.listed(user.id)).map(({ id }) => id)).toEqual([second.session.id]);
    expect(await isStored(user, first)).toBe(false);
    expect([await suite.verify(first.access_token), await suite.verify(second.access_token)]).toEqual([401, 200]);
  });

  test('other users’ tokens are not affected', async () => {
    const [user, stranger] = [await suite.newUser(), await suite.newUser()];
    const [mine, theirs] = [await suite.opaque(user), await suite.opaque(stranger)];
    await expireToken(mine);
    expect(await countTokens(stranger)).toBe(1);
    expect(await suite.verify(theirs.access_token)).toBe(200);
  });
});

describe('TestExpireAllTokens', () => {
  test.each([1, 3])('all tokens of a user with %i are removed', async (count) => {
    const user = await suite.newUser();
    const tokens = [];
    for (let n = 0; n < count; n += 1) tokens.push(await suite.opaque(user));
    const [first] = tokens;
    if (first) expect((await expireAllTokens(first)).statusCode).toBe(204);
    expect(await countTokens(user)).toBe(0);
    for (const token of tokens) {
      expect(await isStored(user, token)).toBe(false);
      expect(await suite.verify(token.access_token)).toBe(401);
    }
  });

  test('other users are not affected', async () => {
    const [user, stranger] = [await suite.newUser(), await suite.newUser()];
    const [mine, theirs] = [await suite.opaque(user), await suite.opaque(stranger)];
    await expireAllTokens(mine);
    expect(await countTokens(stranger)).toBe(1);
    expect(await suite.verify(theirs.access_token)).toBe(200);
  });
});

describe('TestSetValueInCache', () => {
  test('a token is immortal when the timeout is none', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user, undefined, immortal);
    expect(token.expires_in).toBeNull();
    expect(await ttl(user, token)).toBeNull();
  });

  test('a token’s ttl is the timeout that is given', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user, undefined, thousand);
    expect(token.expires_in).toBe(1000);
    await expectTtl(user, token, 1000);
  });
});

/** There, a login resets the ttl of all tokens of the user; here the use of a token resets its own, and no other device's. */
describe('TestResetTokensTTL', () => {
  test('immortal tokens get a limited ttl when OVERWRITE_NONE_TTL is true', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user, undefined, immortal);
    expect(await suite.verify(token.access_token, thousand)).toBe(200);
    await expectTtl(user, token, 1000);
  });

  test('immortal tokens stay immortal when OVERWRITE_NONE_TTL is false', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user, undefined, immortal);
    expect(await suite.verify(token.access_token, keepsImmortal)).toBe(200);
    expect(await ttl(user, token)).toBeNull();
  });

  test('immortal tokens stay immortal when the timeout is none', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user, undefined, immortal);
    expect(await suite.verify(token.access_token, immortal)).toBe(200);
    expect(await ttl(user, token)).toBeNull();
  });

  test('other users’ tokens, and other devices’, are not affected', async () => {
    const [user, stranger] = [await suite.newUser(), await suite.newUser()];
    const [used, sibling] = [
      await suite.opaque(user, undefined, immortal),
      await suite.opaque(user, undefined, immortal),
    ];
    const theirs = await suite.opaque(stranger, undefined, immortal);
    expect(await suite.verify(used.access_token, thousand)).toBe(200);
    expect([await ttl(user, sibling), await ttl(stranger, theirs)]).toEqual([null, null]);
  });

  test('correct ttl is set for renewed tokens', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user, undefined, thousand);
    await suite.age(user, token.session.id, 600);
    await expectTtl(user, token, 400);
    expect(await suite.verify(token.access_token, thousand)).toBe(200);
    await expectTtl(user, token, 1000);
  });

  test('token with ttl becomes immortal when the timeout becomes none', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user, undefined, thousand);
    expect(await suite.verify(token.access_token, immortal)).toBe(200);
    expect(await ttl(user, token)).toBeNull();
  });

  test('token with ttl gets a new ttl when the timeout becomes 2000', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user, undefined, thousand);
    expect(await suite.verify(token.access_token, twoThousand)).toBe(200);
    await expectTtl(user, token, 2000);
  });
});
