import { afterAll, beforeAll, expect, test } from 'vitest';
import { PASSWORD, testApp } from '../test-app.ts';
import { type ListedSession, type SessionSuite, startSessionSuite, type TestUser } from './session-suite.ts';

/** Milliseconds by which a life may be off because asking takes time; what is told apart differs by far more. */
const SLACK = 60_000;

let suite: SessionSuite;
beforeAll(async () => {
  suite = await startSessionSuite();
});
afterAll(() => suite.stop());

async function own(token: string): Promise<ListedSession[]> {
  const response = await suite.api.get('/v1/sessions', token);
  expect(response.statusCode).toBe(200);
  expect(response.headers['cache-control']).toBe('no-store');
  return response.json().sessions;
}

const one = async (user: TestUser, sessionId: string) =>
  (await suite.listed(user.id)).find(({ id }) => id === sessionId);

test('shows each device with what the contract promises, and marks the current one', async () => {
  const user = await suite.newUser();
  const logIn = async (userAgent: string, remoteAddress: string, more: object) =>
    (
      await suite.api.app.inject({
        method: 'POST',
        url: '/v1/tokens',
        remoteAddress,
        headers: { 'user-agent': userAgent },
        payload: { email: user.email, password: PASSWORD, ...more },
      })
    ).json();
  const phone = await logIn('Phone/1.0', '203.0.113.7', { device_name: 'Zoë’s phone' });
  const laptop = await logIn('Laptop/2.0', '2001:db8::1', { token_format: 'opaque' });
  const expected = (tokens: typeof phone, current: boolean, more: object) => ({
    id: tokens.session.id,
    created_at: tokens.session.created_at,
    last_seen_at: tokens.session.created_at,
    expires_at: expect.any(String),
    current,
    ...more,
  });
  const shown = (current: typeof phone) => [
    expected(phone, current === phone, {
      device_name: 'Zoë’s phone',
      user_agent: 'Phone/1.0',
      ip: '203.0.113.7',
      token_format: 'jwt',
    }),
    expected(laptop, current === laptop, {
      device_name: null,
      user_agent: 'Laptop/2.0',
      ip: '2001:db8::1',
      token_format: 'opaque',
    }),
  ];
  const byFormat = (a: ListedSession, b: ListedSession) => a.token_format.localeCompare(b.token_format);
  for (const current of [phone, laptop])
    expect((await own(current.access_token)).sort(byFormat)).toEqual(shown(current));
  await suite.expectAgreement(user);
});

test('says when each ends: with its refresh token, with its opaque token, or never', async () => {
  const user = await suite.newUser();
  const immortal = await testApp({ ...suite.stores, env: { OPAQUE_TOKEN_TTL: 'none' } });
  const [jwt, opaque] = [await suite.jwt(user), await suite.opaque(user)];
  const forEver = await suite.opaque(user, undefined, immortal);
  const within = (text: string | null | undefined, seconds: number) =>
    Math.abs(Date.parse(text ?? '') - (Date.now() + seconds * 1000));
  expect(within((await one(user, jwt.session.id))?.expires_at, jwt.refresh_expires_in)).toBeLessThan(SLACK);
  expect(within((await one(user, opaque.session.id))?.expires_at, 2_592_000)).toBeLessThan(SLACK);
  expect((await one(user, forEver.session.id))?.expires_at).toBeNull();
  await suite.expectAgreement(user);
});

test('moves last_seen_at and expires_at with a refresh, and keeps created_at', async () => {
  const user = await suite.newUser();
  const tokens = await suite.jwt(user);
  await suite.age(user, tokens.session.id, 3600);
  const before = await one(user, tokens.session.id);
  await suite.refreshed(suite.earlier(tokens, 3600));
  const after = await one(user, tokens.session.id);
  expect(after?.created_at).toBe(before?.created_at);
  const moved = (field: 'last_seen_at' | 'expires_at') =>
    Date.parse(after?.[field] ?? '') - Date.parse(before?.[field] ?? '');
  for (const field of ['last_seen_at', 'expires_at'] as const)
    expect(Math.abs(moved(field) - 3_600_000), field).toBeLessThan(SLACK);
});

test('moves last_seen_at with the use of an opaque token, once a minute at most', async () => {
  const user = await suite.newUser();
  const { access_token, session } = await suite.opaque(user);
  const seen = async () => Date.parse((await one(user, session.id))?.last_seen_at ?? '');
  const before = await seen();
  expect(await suite.verify(access_token)).toBe(200);
  expect(await seen()).toBe(before);
  await suite.age(user, session.id, 3600);
  expect(await suite.verify(access_token)).toBe(200);
  expect(Math.abs((await seen()) - Date.now())).toBeLessThan(SLACK);
});

test('shows nobody’s but the caller’s own', async () => {
  const [ada, bob] = [await suite.newUser(), await suite.newUser()];
  const mine = await suite.jwt(ada);
  await suite.jwt(bob);
  await suite.opaque(bob);
  expect((await own(mine.access_token)).map(({ id }) => id)).toEqual([mine.session.id]);
});

test('leaves out what has idled away', async () => {
  const user = await suite.newUser();
  const [idle, live] = [await suite.jwt(user), await suite.jwt(user)];
  await suite.age(user, idle.session.id, 1_209_600);
  expect((await own(live.access_token)).map(({ id }) => id)).toEqual([live.session.id]);
});

test('is refused without a token', async () => {
  expect((await suite.api.get('/v1/sessions')).json().code).toBe('missing_token');
});
