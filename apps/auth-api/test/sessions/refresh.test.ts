import { afterAll, beforeAll, expect, test } from 'vitest';
import { decoded } from '../accounts.ts';
import { testApp } from '../test-app.ts';
import { type SessionSuite, startSessionSuite } from './session-suite.ts';

const DAY = 86_400;

let suite: SessionSuite;
beforeAll(async () => {
  suite = await startSessionSuite();
});
afterAll(() => suite.stop());

test('gives the next pair, keeps orig_iat and the session, and leaves the old access token good', async () => {
  const first = await suite.jwt(await suite.newUser(), 'phone');
  const second = await suite.refreshed(first);
  expect(second).toMatchObject({ session: first.session, first_session: false });
  expect(second.refresh_token).not.toBe(first.refresh_token);
  expect(decoded(second.access_token).claims.orig_iat).toBe(decoded(first.access_token).claims.orig_iat);
  expect(decoded(second.access_token).claims.jti).not.toBe(decoded(first.access_token).claims.jti);
  expect(await suite.verify(first.access_token)).toBe(200);
  expect(await suite.verify(second.access_token)).toBe(200);
});

test('of one token by 1000 callers over two instances gives one successor and no 401', async () => {
  const { refresh_token } = await suite.jwt(await suite.newUser());
  const answers = await Promise.all(
    Array.from({ length: 1000 }, (_, index) => suite.refresh(refresh_token, index % 2 ? suite.api : suite.other)),
  );
  expect(new Set(answers.map(({ statusCode }) => statusCode))).toEqual(new Set([200]));
  expect(new Set(answers.map((answer) => answer.json().refresh_token)).size).toBe(1);
});

test('and introspection, asked of many sessions at the same moment, tell each of its own; a damaged record fails alone', async () => {
  const user = await suite.newUser();
  const sessions = [await suite.jwt(user), await suite.jwt(user), await suite.jwt(user), await suite.jwt(user)];
  const [, ended, damaged] = sessions;
  if (!ended || !damaged) throw new Error('no sessions');
  await suite.redis.del(suite.keys.session(user.id, ended.session.id));
  const active = await Promise.all(sessions.map(({ access_token }) => suite.introspect(access_token)));
  expect(active.map(({ active }) => active)).toEqual(sessions.map((session) => session !== ended));

  await suite.redis.set(suite.keys.session(user.id, damaged.session.id), 'no hash');
  const answers = await Promise.all(sessions.map(({ refresh_token }) => suite.refresh(refresh_token)));
  expect(answers.map(({ statusCode }) => statusCode)).toEqual([200, 401, 503, 200]);
  const others = answers.filter(({ statusCode }) => statusCode === 200).map((answer) => answer.json().session.id);
  expect(others).toEqual([sessions[0]?.session.id, sessions[3]?.session.id]);
});

test('whose reply was lost can be repeated, even after the successor was used', async () => {
  const first = await suite.jwt(await suite.newUser());
  const second = await suite.refreshed(first);
  const third = await suite.refreshed(second);
  expect((await suite.refreshed(first)).refresh_token).toBe(second.refresh_token);
  expect((await suite.refreshed(second)).refresh_token).toBe(third.refresh_token);
  expect((await suite.refresh(third.refresh_token)).statusCode).toBe(200);
});

test('inside the grace is still the same successor', async () => {
  const first = await suite.jwt(await suite.newUser());
  const second = await suite.refreshed(first);
  await suite.rotatedEarlier(first, 20);
  // The instant of issue is part of the token: what is given again is the token of that, earlier, instant.
  const again = await suite.refreshed(first);
  expect(suite.contentOf(again)).toMatchObject({ counter: suite.contentOf(second).counter });
});

test('of a token replaced within the grace, but too many refreshes ago to be known, is refused and ends nothing', async () => {
  const user = await suite.newUser();
  const chain: { refresh_token: string }[] = [await suite.jwt(user)];
  // Past a hundred an entry is longer by a digit: wherever the list is cut, it is not at the end of one.
  for (let last = chain[0]; last && chain.length <= 150; chain.push(last)) last = await suite.refreshed(last);
  const answers: string[] = [];
  for (const { refresh_token } of chain) {
    const response = await suite.refresh(refresh_token);
    answers.push(response.statusCode === 200 ? 'good' : response.json().code);
  }
  const known = answers.indexOf('good');
  expect(answers.slice(0, known)).toEqual(Array.from({ length: known }, () => 'session_revoked'));
  expect(answers.slice(known).every((answer) => answer === 'good')).toBe(true);
  expect(known).toBeGreaterThan(0);
  expect(chain.length - known).toBeGreaterThan(64);
  await suite.expectAgreement(user);
});

test('in a chain keeps orig_iat for weeks, and never promises a life past SESSION_MAX_AGE', async () => {
  const user = await suite.newUser();
  const first = await suite.jwt(user);
  const loggedIn = Number(decoded(first.access_token).claims.orig_iat);
  let token: { refresh_token: string } = first;
  for (const [days, left] of [
    [10, 14],
    [20, 10],
    [29, 1],
  ] as const) {
    const passed = (days - (days === 10 ? 0 : days === 20 ? 10 : 20)) * DAY;
    await suite.age(user, first.session.id, passed);
    const next = await suite.refreshed(suite.earlier(token, passed));
    expect(Math.abs(next.refresh_expires_in - left * DAY), `after ${days} days`).toBeLessThan(60);
    const { claims } = decoded(next.access_token);
    expect(Math.abs(Number(claims.orig_iat) - (loggedIn - days * DAY))).toBeLessThanOrEqual(1);
    expect(Number(claims.iat)).toBeGreaterThanOrEqual(loggedIn);
    await suite.expectAgreement(user);
    token = next;
  }
});

test('slides the idle time: a session refreshed in time outlives its first refresh token', async () => {
  const user = await suite.newUser();
  const first = await suite.jwt(user);
  await suite.age(user, first.session.id, 13 * DAY);
  const second = await suite.refreshed(suite.earlier(first, 13 * DAY));
  await suite.age(user, first.session.id, 13 * DAY);
  expect((await suite.refresh(suite.earlier(second, 13 * DAY).refresh_token)).statusCode).toBe(200);
});

test('in the last minutes before SESSION_MAX_AGE gives an access token that ends with the session, which ending all others still finds', async () => {
  const user = await suite.newUser();
  const first = await suite.jwt(user);
  const current = await suite.jwt(user);
  const strict = await testApp({ ...suite.stores, env: { SESSION_MAX_AGE: '120' } });
  const last = await suite.refreshed(first, strict);
  expect(last.expires_in).toBeLessThanOrEqual(120);
  expect(last.expires_in).toBeGreaterThan(60);
  expect(last.refresh_expires_in).toBe(last.expires_in);
  const { iat, exp } = decoded(last.access_token).claims;
  expect(Number(exp) - Number(iat)).toBe(last.expires_in);
  expect(await suite.verify(last.access_token)).toBe(200);
  await suite.api.call('DELETE', '/v1/sessions?except=current', undefined, {
    authorization: `Bearer ${current.access_token}`,
  });
  expect(await suite.verify(last.access_token)).toBe(401);
});
