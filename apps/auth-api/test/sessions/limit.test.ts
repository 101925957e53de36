import { afterAll, beforeAll, expect, test } from 'vitest';
import { type TestApp, testApp } from '../test-app.ts';
import { type SessionSuite, startSessionSuite, type TestUser } from './session-suite.ts';

const LIMIT = 3;

const POLL = { timeout: 5000 };

let suite: SessionSuite;
let limited: TestApp;
beforeAll(async () => {
  suite = await startSessionSuite({ RATE_LIMITS: 'off', MAX_SESSIONS_PER_USER: String(LIMIT) });
  limited = suite.api;
});
afterAll(() => suite.stop());

const ids = async ({ id }: TestUser) => (await suite.listed(id)).map((session) => session.id).sort();
const idsOf = (...tokens: { session: { id: string } }[]) => tokens.map(({ session }) => session.id).sort();

test('the oldest goes, with its access and refresh token, on every instance', async () => {
  const user = await suite.newUser();
  const oldest = await suite.jwt(user);
  expect(await suite.verify(oldest.access_token, suite.other)).toBe(200);
  const kept = [await suite.jwt(user), await suite.opaque(user)];
  expect(await ids(user)).toEqual(idsOf(oldest, ...kept));
  const newest = await suite.jwt(user);
  expect(newest.first_session).toBe(false);
  expect(await ids(user)).toEqual(idsOf(newest, ...kept));
  expect(await suite.verify(oldest.access_token)).toBe(401);
  await expect.poll(() => suite.verify(oldest.access_token, suite.other), POLL).toBe(401);
  for (const instance of [suite.api, suite.other])
    expect(await suite.refusal(oldest.refresh_token, instance)).toEqual([401, 'session_revoked']);
  for (const { access_token } of [newest, ...kept]) expect(await suite.verify(access_token)).toBe(200);
  await suite.expectAgreement(user);
});

test('the oldest goes when all are opaque, with its token', async () => {
  const user = await suite.newUser();
  const oldest = await suite.opaque(user);
  const kept = [await suite.opaque(user), await suite.opaque(user), await suite.opaque(user)];
  expect(await ids(user)).toEqual(idsOf(...kept));
  expect(await suite.verify(oldest.access_token)).toBe(401);
  expect(await suite.verify(oldest.access_token, suite.other)).toBe(401);
  for (const { access_token } of kept) expect(await suite.verify(access_token)).toBe(200);
});

test('the oldest goes also among tokens that never expire', async () => {
  const immortal = await testApp({
    ...suite.stores,
    env: { RATE_LIMITS: 'off', MAX_SESSIONS_PER_USER: String(LIMIT), OPAQUE_TOKEN_TTL: 'none' },
  });
  const user = await suite.newUser();
  const all = [];
  // Twelve, because by chance the oldest of four would be the one that goes often enough.
  for (let n = 0; n < 12; n += 1) {
    all.push(await suite.opaque(user, undefined, immortal));
    expect(await ids(user)).toEqual(idsOf(...all.slice(-LIMIT)));
  }
  await suite.expectAgreement(user);
});

test('the oldest goes whatever its kind: one that lives long does not outstay one that is newer', async () => {
  const immortal = await testApp({
    ...suite.stores,
    env: { RATE_LIMITS: 'off', MAX_SESSIONS_PER_USER: String(LIMIT), OPAQUE_TOKEN_TTL: 'none' },
  });
  const user = await suite.newUser();
  const all: { session: { id: string } }[] = [await suite.opaque(user, undefined, immortal), await suite.opaque(user)];
  for (let n = 0; n < 3; n += 1) all.push(await suite.jwt(user));
  expect(await ids(user)).toEqual(idsOf(...all.slice(-LIMIT)));
});

test('a limit that was lowered holds from the next login on', async () => {
  const user = await suite.newUser();
  const old = [await suite.jwt(user), await suite.opaque(user), await suite.jwt(user)];
  const strict = await testApp({ ...suite.stores, env: { RATE_LIMITS: 'off', MAX_SESSIONS_PER_USER: '1' } });
  const only = await suite.jwt(user, undefined, strict);
  expect(await ids(user)).toEqual(idsOf(only));
  for (const { access_token } of old) expect(await suite.verify(access_token, strict)).toBe(401);
});

test('is never exceeded by logins that come at once', async () => {
  const user = await suite.newUser();
  const oldest = await suite.jwt(user);
  await Promise.all(
    Array.from({ length: 20 }, (_, n) =>
      n % 2 ? suite.jwt(user, undefined, limited) : suite.opaque(user, undefined, suite.other),
    ),
  );
  const newest = await suite.jwt(user);
  const left = await ids(user);
  expect(left).toHaveLength(LIMIT);
  expect(left).toContain(newest.session.id);
  expect(await suite.verify(oldest.access_token)).toBe(401);
  await suite.expectAgreement(user);
});

test('a session that idled away takes no place', async () => {
  const user = await suite.newUser();
  const [idle, live] = [await suite.jwt(user), await suite.jwt(user)];
  await suite.age(user, idle.session.id, 1_209_600);
  const more = [await suite.jwt(user), await suite.jwt(user)];
  expect(await ids(user)).toEqual(idsOf(live, ...more));
});
