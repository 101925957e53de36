/** Sessions when something fails half way, and when a clock is stepped. The last three leave a Redis behind that lives in the future. */

import { randomUUID } from 'node:crypto';
import { tellAll } from '@latchkey/dev-stack/test-redis';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createClientJti, createJti } from '../../src/domain/token-identity.ts';
import { decoded, type TokenResponse } from '../accounts.ts';
import { addClient } from '../clients.ts';
import { outsideVerifier } from '../feed/feed-suite.ts';
import { type TestApp, testApp } from '../test-app.ts';
import { type SessionSuite, startSessionSuite, type TestUser } from './session-suite.ts';

let suite: SessionSuite;
beforeAll(async () => {
  suite = await startSessionSuite();
});
afterAll(() => suite.stop());

const HOUR = 3_600_000;
/** Seconds. */
const DAY = 86_400;

/** Runs something while the revocation log refuses to be written. */
async function withoutLog(during: () => Promise<void>): Promise<void> {
  await tellAll(suite.redis, (server) => server.acl('SETUSER', 'default', '-xadd'));
  try {
    await during();
  } finally {
    await tellAll(suite.redis, (server) => server.acl('SETUSER', 'default', '+xadd'));
  }
}

test('a login that could not be finished leaves no session that nobody holds', async () => {
  const limited = await testApp({ ...suite.stores, env: { MAX_SESSIONS_PER_USER: '1' } });
  const user = await suite.newUser();
  await suite.jwt(user, undefined, limited);
  await withoutLog(async () => {
    expect((await limited.login(user.email)).statusCode).toBe(503);
  });
  expect(await suite.listed(user.id)).toEqual([]);
  await suite.expectAgreement(user);
});

test('theft is recorded even if the revocation log cannot be written', async () => {
  const user = await suite.newUser();
  const stolen = await suite.jwt(user);
  await suite.refreshed(stolen);
  await suite.rotatedEarlier(stolen, 31);
  await withoutLog(async () => {
    expect((await suite.refresh(stolen.refresh_token)).statusCode).toBe(503);
  });
  expect(await suite.auditTypes(user)).toContain('token.refresh_reused');
});

test('the index expires with the longest-lived session that is left', async () => {
  const immortal = await testApp({ ...suite.stores, env: { OPAQUE_TOKEN_TTL: 'none' } });
  const user = await suite.newUser();
  await suite.jwt(user);
  const { session } = await suite.opaque(user, undefined, immortal);
  const index = suite.keys.sessions(user.id);
  expect(await suite.redis.pttl(index)).toBe(-1);
  expect((await suite.act('DELETE', `/users/${user.id}/sessions/${session.id}`)).statusCode).toBe(204);
  expect(await suite.redis.pttl(index)).toBeGreaterThan(0);
});

test('denying what has expired or is cut off already leaves no line in the log', async () => {
  const user = await suite.newUser();
  const tokens = await suite.jwt(user);
  const { jti } = JSON.parse(Buffer.from(tokens.access_token.split('.')[1] ?? '', 'base64url').toString());
  expect((await suite.act('POST', `/users/${user.id}/revocations`)).statusCode).toBe(200);
  const lines = await suite.redis.xlen(suite.keys.revocations);
  const longAgo = (Date.now() - HOUR) * 1000;
  const sessionId = Buffer.alloc(16, 1).toString('base64url');
  const dead = [jti, createJti({ userId: randomUUID(), sessionId, issuedAt: longAgo }), createClientJti(longAgo)];
  for (const one of dead) {
    const expires_at = new Date(Date.now() + HOUR).toISOString();
    expect((await suite.act('POST', '/tokens/deny', { jti: one, expires_at })).statusCode).toBe(204);
  }
  expect(await suite.redis.xlen(suite.keys.revocations)).toBe(lines);
});

/** Each way in which all that a session was issued comes to be refused. */
const WAYS: Record<string, (user: TestUser, tokens: TokenResponse, strict: TestApp) => Promise<unknown>> = {
  'logged out': (_, { access_token }) => suite.api.delete('/v1/sessions/current', access_token),
  'ended from another device': async (user, { session }) =>
    suite.api.delete(`/v1/sessions/${session.id}`, (await suite.jwt(user)).access_token),
  'ended as all but another': async (user) =>
    suite.api.delete('/v1/sessions?except=current', (await suite.jwt(user)).access_token),
  'ended by an operator': ({ id }, { session }) => suite.act('DELETE', `/users/${id}/sessions/${session.id}`),
  'denied by its jti': (_, { access_token }) =>
    suite.act('POST', '/tokens/deny', { jti: decoded(access_token).claims.jti }),
  evicted: (user, _, strict) => suite.jwt(user, undefined, strict),
  reused: async (_, tokens) => {
    await suite.refreshed(tokens);
    await suite.rotatedEarlier(tokens, 31);
    expect((await suite.refusal(tokens.refresh_token))[1]).toBe('refresh_token_reused');
  },
  expired: async (user, tokens, strict) => {
    const { userId, sessionId } = suite.contentOf(tokens);
    const seen = await suite.redis.hget(suite.keys.session(userId, sessionId), 'seen');
    await suite.age(user, sessionId, 3 * DAY);
    await suite.redis.hset(suite.keys.session(userId, sessionId), 'seen', seen ?? '');
    expect((await suite.refusal(suite.earlier(tokens, 3 * DAY).refresh_token, strict))[1]).toBe('session_expired');
  },
  'ended, and written to the log later': async (user, { access_token }) => {
    await withoutLog(async () => {
      expect((await suite.api.delete('/v1/sessions/current', access_token)).statusCode).toBe(503);
    });
    await suite.jwt(user);
  },
  'cut off': ({ id }) => suite.act('POST', `/users/${id}/revocations`),
  suspended: ({ id }) => suite.act('PUT', `/users/${id}/suspension`, { reason: 'spam' }),
};

test('a suspension, a cut-off at an instant to come, that the log can not be told of stands in the other two, and the call says 503', async () => {
  const [suspended, closed] = [await suite.newUser(), await suite.newUser()];
  const tomorrow = new Date(Date.now() + DAY).toISOString();
  const statusOf = async ({ id }: TestUser) => (await suite.act('GET', `/users/${id}`)).json();
  await withoutLog(async () => {
    expect((await suite.act('PUT', `/users/${suspended.id}/suspension`, { reason: 'spam' })).statusCode).toBe(503);
    expect((await suite.act('POST', `/users/${closed.id}/revocations`, { issued_before: tomorrow })).statusCode).toBe(
      503,
    );
  });
  expect(await statusOf(suspended)).toMatchObject({ status: 'suspended' });
  expect(await statusOf(closed)).toMatchObject({ tokens_valid_from: tomorrow });
  for (const { email } of [suspended, closed])
    expect((await suite.api.login(email)).json().code).toBe('account_suspended');
});

test('what was issued ahead of a clock that was put right is refused until it has expired, however it was revoked', async () => {
  const outside = await outsideVerifier(suite.api, await suite.api.app.listen({ host: '127.0.0.1', port: 0 }));
  const strict = await testApp({
    ...suite.stores,
    env: { MAX_SESSIONS_PER_USER: '1', SESSION_MAX_AGE: String(DAY) },
  });
  const ahead = Date.now() + HOUR / 2;
  /** A login by a clock of which only the session tells any more. */
  async function issuedAhead(user: TestUser): Promise<TokenResponse> {
    await suite.redis.hset(suite.keys.gate(user.id), 'cutoff', ahead * 1000);
    const tokens = await suite.jwt(user);
    await suite.redis.del(suite.keys.gate(user.id));
    return tokens;
  }
  const denied = (jti: string) => suite.act('POST', '/tokens/deny', { jti });
  /** Lets the log come to this instant: what has stopped to matter leaves it, and each copy. */
  async function passUntil(instant: number): Promise<void> {
    await suite.redis.xadd(suite.keys.revocations, `${instant}-0`, 'galaxy', 'm31');
    for (let times = 0; times < 3; times += 1) await denied(createClientJti(Date.now() * 1000));
    const last = await suite.jwt(await suite.newUser());
    await suite.api.delete('/v1/sessions/current', last.access_token);
    await vi.waitFor(async () => expect(await suite.verify(last.access_token, suite.other)).toBe(401));
    await vi.waitFor(async () => expect(await outside.answer(last.access_token)).toBe('token_revoked'));
  }
  const untilOf = async (id: string) => {
    const entries = await suite.redis.xrange(suite.keys.revocations, '-', '+');
    return entries.flatMap(([, [, text = '']]) => (text.includes(id) ? Number(text.split(' ')[0]) : []));
  };

  const revoked = new Map<string, TokenResponse>();
  for (const [way, revoke] of Object.entries(WAYS)) {
    const user = await suite.newUser();
    const tokens = await issuedAhead(user);
    expect(await outside.answer(tokens.access_token), way).toBe('good');
    await revoke(user, tokens, strict);
    await vi.waitFor(async () => expect(await suite.verify(tokens.access_token), way).toBe(401));
    revoked.set(way, tokens);
  }
  const [clientJti, madeUp] = [createClientJti(ahead * 1000), 'z'.repeat(32)];
  await denied(clientJti);
  await denied(madeUp);
  const client = await addClient(suite.stores.databaseUrl);
  await suite.act('DELETE', `/clients/${client.id}`);

  const ways = [...revoked.keys()];
  const answers = async (ask: (token: string) => Promise<unknown>) =>
    Object.fromEntries(
      await Promise.all([...revoked].map(async ([way, { access_token }]) => [way, await ask(access_token)])),
    );
  const allAre = (answer: unknown) => Object.fromEntries(ways.map((way) => [way, answer]));
  const life = 660;
  // By the clock that was put right, all that was issued by now has expired.
  await passUntil(Date.now() + 1.5 * life * 1000);
  for (const instance of [suite.api, suite.other])
    expect(await answers((token) => suite.verify(token, instance))).toEqual(allAre(401));
  expect(await answers(outside.answer)).toEqual(allAre('token_revoked'));
  expect(await untilOf(clientJti)).toEqual([Math.ceil(ahead / 1000) + life]);
  // No longer than that; and an instant at which nothing can have been issued counts for a day at most, for ever as now.
  await passUntil(ahead + 1.1 * life * 1000);
  for (const { session } of revoked.values()) expect(await untilOf(session.id)).toEqual([]);
  const now = Math.ceil(Date.now() / 1000);
  expect((await untilOf(madeUp))[0]).toBeLessThanOrEqual(now + DAY + life);
  expect((await untilOf(client.id))[0]).toBeLessThanOrEqual(now + life);
});

test('after an epoch that was born ahead of the clock, what is issued is good all the same', async () => {
  const user = await suite.newUser();
  const before = await suite.jwt(user);
  await suite.redis.hset(suite.keys.epoch, { id: 'ahead', born: String((Date.now() + HOUR) * 1000) });
  await vi.waitFor(async () => expect(await suite.verify(before.access_token)).toBe(401), { timeout: 10_000 });
  const after = await vi.waitFor(() => suite.jwt(user), { timeout: 10_000 });
  for (const instance of [suite.api, suite.other])
    await vi.waitFor(async () => expect(await suite.verify(after.access_token, instance)).toBe(200));
  expect((await suite.refresh(after.refresh_token)).statusCode).toBe(200);
});

test('a logout is known everywhere although the clock of the log stepped back', async () => {
  const user = await suite.newUser();
  const tokens = await suite.jwt(user);
  expect(await suite.verify(tokens.access_token, suite.other)).toBe(200);
  // The last line was written an hour ahead of now.
  const ahead = `${Date.now() + HOUR}-0`;
  await suite.redis.xadd(suite.keys.revocations, ahead, 'galaxy', 'm31');
  expect((await suite.api.delete('/v1/sessions/current', tokens.access_token)).statusCode).toBe(204);
  await vi.waitFor(async () => expect(await suite.verify(tokens.access_token, suite.other)).toBe(401));
  // And stays known when the log moves on.
  const next = await suite.jwt(user);
  expect((await suite.api.delete('/v1/sessions/current', next.access_token)).statusCode).toBe(204);
  await vi.waitFor(async () => expect(await suite.verify(next.access_token, suite.other)).toBe(401));
  expect(await suite.verify(tokens.access_token, suite.other)).toBe(401);
});
