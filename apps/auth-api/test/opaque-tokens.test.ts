/** Opaque tokens as the contract has them: their form, what is stored, and the TTL rules, case by case. */

import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { keysOf, monitorAll } from '@latchkey/dev-stack/test-redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createOpaqueToken } from '../src/domain/opaque-token.ts';
import { expectProblem } from './expect-problem.ts';
import { type OpaqueResponse, type SessionSuite, startSessionSuite, type TestUser } from './sessions/session-suite.ts';
import { startTestApp, type TestApp, testApp } from './test-app.ts';

/** What leak scanners may look for. */
const FORM = /\blko_[A-Za-z0-9_-]{70}(?![A-Za-z0-9_-])/;
/** Seconds: T where tokens are issued (the default), and T where they are used. */
const ISSUED_FOR = 2_592_000;
const T = 5000;
/** Milliseconds by which a life may be off because asking takes time. */
const SLACK = 60_000;

let suite: SessionSuite;
beforeAll(async () => {
  suite = await startSessionSuite({ RATE_LIMITS: 'off' });
});
afterAll(() => suite.stop());

/** The same token with other random bytes, and the checksum that goes with them. */
function withSecret(token: string, secret: Buffer): string {
  const bytes = Buffer.from(token.slice(4), 'base64url');
  secret.copy(bytes, 16);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 48)), 48);
  return `lko_${bytes.toString('base64url')}`;
}

const use = (token: string, instance = suite.api) => instance.get('/v1/verify', token);

/** Every command that names a session, as the servers tell of it. */
async function watchLookups() {
  const lookups: string[] = [];
  const stop = await monitorAll(suite.redis, (line) => {
    if (line.includes('latchkey:sid:')) lookups.push(line);
  });
  return { lookups, stop };
}

describe('the token', () => {
  test('is a prefix, 256 random bits and a checksum in one word, alone in its answer', async () => {
    const user = await suite.newUser();
    const answer = await suite.opaque(user, 'terminal');
    expect(answer.access_token).toMatch(new RegExp(`^${FORM.source}$`));
    expect(`{"token":"${answer.access_token}"}`).toMatch(FORM);
    expect(answer).toEqual({
      access_token: answer.access_token,
      token_type: 'Bearer',
      expires_in: ISSUED_FOR,
      session: { id: expect.any(String), device_name: 'terminal', created_at: expect.any(String) },
      first_session: true,
    });
    const bytes = Buffer.from(answer.access_token.slice(4), 'base64url');
    expect(bytes).toHaveLength(16 + 32 + 4);
    expect(bytes.readUInt32BE(48)).toBe(crc32(bytes.subarray(0, 48)));
    expect(bytes.toString('hex', 0, 16)).toBe(user.id.replaceAll('-', ''));
  });

  test('has nothing in common with another one of the same user but what names the user', () => {
    const secrets = Array.from({ length: 1000 }, () =>
      Buffer.from(createOpaqueToken('7f2a5b6e-0000-4000-8000-000000000001').token.slice(4), 'base64url').subarray(
        16,
        48,
      ),
    );
    expect(new Set(secrets.map((secret) => secret.toString('hex'))).size).toBe(1000);
    // Each of the 256 bits is now 0, now 1: that one is not is one chance in 2^991.
    const [ones, zeros] = [Buffer.alloc(32), Buffer.alloc(32, 0xff)];
    for (const secret of secrets)
      for (let index = 0; index < 32; index += 1) {
        ones[index] = (ones[index] ?? 0) | (secret[index] ?? 0);
        zeros[index] = (zeros[index] ?? 0) & (secret[index] ?? 0);
      }
    expect([ones, zeros]).toEqual([Buffer.alloc(32, 0xff), Buffer.alloc(32)]);
  });

  test('mistyped is refused without a look-up, whatever the slip', async () => {
    const { access_token: token, session } = await suite.opaque(await suite.newUser());
    const slips = new Set([token.slice(0, -1), token.slice(1), `${token}A`, token.toUpperCase(), token.toLowerCase()]);
    for (let index = 0; index < token.length; index += 1) {
      const [head, char, next, tail] = [token.slice(0, index), token[index], token[index + 1], token.slice(index + 2)];
      slips.add(`${head}${char === 'A' ? 'B' : 'A'}${token.slice(index + 1)}`);
      slips.add(`${head}${token.slice(index + 1)}`);
      slips.add(`${head}${char}${token.slice(index)}`);
      if (next !== undefined) slips.add(`${head}${next}${char}${tail}`);
    }
    slips.delete(token);
    // The script is known to Redis from here on.
    expect((await use(token)).statusCode).toBe(200);
    const { lookups, stop } = await watchLookups();
    try {
      for (const slip of slips) {
        const response = await use(slip);
        expect([slip, response.statusCode, response.json().code]).toEqual([slip, 401, 'invalid_token']);
      }
      // Redis tells of its commands in their order: once the look-up of the right token is heard of, any before it would have been.
      expect((await use(token)).statusCode).toBe(200);
      const scripts = () => lookups.filter((lookup) => / "evalsha" /i.test(lookup));
      await expect.poll(() => scripts().length).toBeGreaterThan(0);
      expect(scripts()).toHaveLength(1);
      for (const lookup of lookups) expect(lookup).toContain(`:${session.id}`);
    } finally {
      stop();
    }
  });

  test('is refused to who knows only what is stored', async () => {
    const user = await suite.newUser();
    const { access_token, session } = await suite.opaque(user);
    const hash = createHash('sha256').update(access_token).digest();
    expect(session.id).toBe(hash.toString('base64url', 0, 16));
    // The right name and checksum, and all that a dump holds, or could, in place of the 32 bytes.
    const id = Buffer.from(session.id, 'base64url');
    for (const guess of [Buffer.concat([id, id]), Buffer.concat([id, Buffer.alloc(16)]), hash, Buffer.alloc(32)])
      expect((await use(withSecret(access_token, guess))).json().code).toBe('invalid_token');
    for (const spelling of [session.id, `lko_${session.id}`, `lko_${hash.toString('base64url')}`])
      expect((await use(spelling)).statusCode).toBe(401);
    expect((await use(access_token)).statusCode).toBe(200);
  });

  test('opens nothing under another user’s name', async () => {
    const [user, stranger] = [await suite.newUser(), await suite.newUser()];
    const [mine, theirs] = [await suite.opaque(user), await suite.opaque(stranger)];
    const secret = Buffer.from(mine.access_token.slice(4), 'base64url').subarray(16, 48);
    expect((await use(withSecret(theirs.access_token, secret))).statusCode).toBe(401);
    expect((await use(withSecret(mine.access_token, secret))).statusCode).toBe(200);
  });

  test('is good on every route that takes an access token, and is not a refresh token', async () => {
    const user = await suite.newUser();
    const { access_token, session } = await suite.opaque(user);
    expect((await suite.api.get('/v1/me', access_token)).json()).toMatchObject({ id: user.id });
    expect((await use(access_token)).headers).toMatchObject({
      'x-auth-user': user.id,
      'x-auth-session': session.id,
      'x-auth-scope': 'account',
    });
    expectProblem(await suite.refresh(access_token), { status: 401, code: 'invalid_refresh_token' });
    expectProblem(await suite.api.get('/v1/verify?scope=admin', access_token), {
      status: 403,
      code: 'insufficient_scope',
    });
  });

  test('is dead after a cut-off, a suspension and its end, and a logout', async () => {
    const ends: ((user: TestUser, token: string) => PromiseLike<unknown>)[] = [
      ({ id }) => suite.act('POST', `/users/${id}/revocations`),
      ({ id }) => suite.act('PUT', `/users/${id}/suspension`, {}),
      async ({ id }) => {
        await suite.act('PUT', `/users/${id}/suspension`, {});
        await suite.act('DELETE', `/users/${id}/suspension`);
      },
      (_user, token) => suite.api.delete('/v1/sessions/current', token),
      (_user, token) => suite.act('POST', '/tokens/deny', { token }),
    ];
    for (const end of ends) {
      const [user, bystander] = [await suite.newUser(), await suite.newUser()];
      const [{ access_token }, other] = [await suite.opaque(user), await suite.opaque(bystander)];
      await end(user, access_token);
      for (const instance of [suite.api, suite.other]) {
        expect((await use(access_token, instance)).statusCode).toBe(401);
        expect(await suite.introspect(access_token, instance)).toEqual({ active: false });
        expect((await use(other.access_token, instance)).statusCode).toBe(200);
      }
    }
  });
});

/** How long a token lives, by everything that tells of it. `null`: for ever. */
async function expectLife(user: TestUser, token: OpaqueResponse, seconds: number | null, instance: TestApp) {
  const left = await suite.left(user, token.session.id);
  const shown = (await use(token.access_token, instance)).headers['x-auth-token-expires'];
  const { active, exp } = await suite.introspect(token.access_token, instance);
  const listed = (await suite.listed(user.id)).find(({ id }) => id === token.session.id);
  expect(active).toBe(true);
  if (seconds === null) {
    expect({ left, shown, exp, listed: listed?.expires_at }).toEqual({
      left: null,
      shown: undefined,
      exp: undefined,
      listed: null,
    });
  } else {
    expect(shown).toMatch(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$/);
    const ends = Date.now() + seconds * 1000;
    for (const [told, by] of [
      ['Redis', Date.now() + (left ?? 0)],
      ['X-Auth-Token-Expires', Date.parse(String(shown))],
      ['introspection', (exp ?? 0) * 1000],
      ['the list', Date.parse(listed?.expires_at ?? '')],
    ] as const)
      expect(Math.abs(by - ends), `by ${told}: ${new Date(by).toISOString()}`).toBeLessThan(SLACK);
  }
  await suite.expectAgreement(user);
}

describe.each([
  { reset: true, overwrite: true },
  { reset: true, overwrite: false },
  { reset: false, overwrite: true },
  { reset: false, overwrite: false },
])('at use, with RESET_TOKEN_TTL_ON_USE=$reset and OVERWRITE_NONE_TTL=$overwrite,', ({ reset, overwrite }) => {
  const settings = { RATE_LIMITS: 'off', RESET_TOKEN_TTL_ON_USE: String(reset), OVERWRITE_NONE_TTL: String(overwrite) };
  let none: TestApp;
  let n: TestApp;
  beforeAll(async () => {
    [none, n] = await Promise.all([
      startTestApp({ ...suite.stores, env: { ...settings, OPAQUE_TOKEN_TTL: 'none' } }),
      startTestApp({ ...suite.stores, env: { ...settings, OPAQUE_TOKEN_TTL: String(T) } }),
    ]);
  });
  afterAll(() => Promise.all([none.close(), n.close()]));

  /** Of either life; used by the app whose T it says. Lives in seconds, null: for ever. */
  const cases: { before: number | null; by: 'none' | 'n'; after: number | null }[] = [
    { before: null, by: 'none', after: null },
    { before: null, by: 'n', after: reset && overwrite ? T : null },
    { before: ISSUED_FOR, by: 'none', after: reset ? null : ISSUED_FOR },
    { before: ISSUED_FOR, by: 'n', after: reset ? T : ISSUED_FOR },
  ];

  test.each(cases)(
    'a token of life $before where T is $by lives $after from then on',
    async ({ before, by, after }) => {
      const user = await suite.newUser();
      const issuer = before === null ? none : suite.api;
      const [token, sibling] = [await suite.opaque(user, 'used', issuer), await suite.opaque(user, 'sibling', issuer)];
      const jwt = await suite.jwt(user);
      const untouched = await suite.opaque(await suite.newUser(), undefined, issuer);
      expect(token.expires_in).toBe(before);
      const look = async () => ({
        sibling: [await suite.score(user, sibling.session.id), await suite.score(user, jwt.session.id)],
        keys: await keysOf(suite.redis, `*${untouched.session.id}`),
      });
      const [seen, siblingLeft] = [await look(), await suite.left(user, sibling.session.id)];

      const instance = by === 'none' ? none : n;
      for (let uses = 0; uses < 2; uses += 1) {
        expect((await use(token.access_token, instance)).statusCode).toBe(200);
        await expectLife(user, token, after, instance);
      }

      // Neither another device's token nor another user's knows of it.
      expect(await look()).toEqual(seen);
      const left = await suite.left(user, sibling.session.id);
      if (siblingLeft === null) expect(left).toBeNull();
      else expect(Math.abs((siblingLeft ?? 0) - (left ?? 0))).toBeLessThan(SLACK);
      const [othersKey = ''] = seen.keys;
      const othersLeft = await suite.redis.pttl(othersKey);
      if (before === null) expect(othersLeft).toBe(-1);
      else expect(othersLeft).toBeGreaterThan(ISSUED_FOR * 1000 - 30_000);
    },
  );

  test(`a token of the same T is ${reset ? 'renewed to the whole of it' : 'not renewed'}`, async () => {
    const user = await suite.newUser();
    const [token, sibling] = [await suite.opaque(user, 'used', n), await suite.opaque(user, 'sibling', n)];
    for (const { session } of [token, sibling]) await suite.age(user, session.id, 2000);
    expect((await use(token.access_token, n)).statusCode).toBe(200);
    await expectLife(user, token, reset ? T : T - 2000, n);
    expect(Math.abs(((await suite.left(user, sibling.session.id)) ?? 0) - (T - 2000) * 1000)).toBeLessThan(SLACK);
  });

  test(`a token ${reset ? 'used in time never dies' : 'dies when its first T is over, however often it is used'}`, async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user, undefined, n);
    const answers: number[] = [];
    for (let round = 0; round < 4; round += 1) {
      await suite.age(user, token.session.id, T * 0.4);
      answers.push((await use(token.access_token, n)).statusCode);
    }
    expect(answers).toEqual(reset ? [200, 200, 200, 200] : [200, 200, 401, 401]);
    if (!reset) expect(await suite.listed(user.id)).toEqual([]);
  });

  test('a refused token renews nothing', async () => {
    const user = await suite.newUser();
    const token = await suite.opaque(user);
    const before = await suite.score(user, token.session.id);
    expect((await use(withSecret(token.access_token, Buffer.alloc(32, 1)), n)).statusCode).toBe(401);
    expect(await suite.score(user, token.session.id)).toBe(before);
  });
});

test('a short life is renewed by each use, however soon that is', async () => {
  const minute = await testApp({ ...suite.stores, env: { RATE_LIMITS: 'off', OPAQUE_TOKEN_TTL: '60' } });
  const user = await suite.newUser();
  const { access_token, session } = await suite.opaque(user, undefined, minute);
  await suite.age(user, session.id, 0.9);
  const before = Number(await suite.score(user, session.id));
  expect((await use(access_token, minute)).statusCode).toBe(200);
  expect(Number(await suite.score(user, session.id)) - before).toBeGreaterThanOrEqual(900);
});

test('the index lives on with the last token that never expires, and becomes mortal with it', async () => {
  const user = await suite.newUser();
  const none = await testApp({ ...suite.stores, env: { RATE_LIMITS: 'off', OPAQUE_TOKEN_TTL: 'none' } });
  const [first, second] = [await suite.opaque(user, '1', none), await suite.opaque(user, '2', none)];
  const lives = () => suite.redis.pttl(suite.keys.sessions(user.id));
  expect(await lives()).toBe(-1);
  await use(first.access_token);
  expect(await lives()).toBe(-1);
  await use(second.access_token);
  expect(Math.abs((await lives()) - ISSUED_FOR * 1000)).toBeLessThan(SLACK);
  await suite.expectAgreement(user);
});
