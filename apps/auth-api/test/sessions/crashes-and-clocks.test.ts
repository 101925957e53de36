/** Sessions when something fails half way, and when a clock is stepped. The last two leave a Redis behind that lives in the future. */

import { randomUUID } from 'node:crypto';
import { tellAll } from '@latchkey/dev-stack/test-redis';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createClientJti, createJti } from '../../src/domain/token-identity.ts';
import { testApp } from '../test-app.ts';
import { type SessionSuite, startSessionSuite } from './session-suite.ts';

let suite: SessionSuite;
beforeAll(async () => {
  suite = await startSessionSuite();
});
afterAll(() => suite.stop());

const HOUR = 3_600_000;

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
