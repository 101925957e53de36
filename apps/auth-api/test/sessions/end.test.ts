import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { testApp } from '../test-app.ts';
import { type SessionSuite, startSessionSuite, type TestUser } from './session-suite.ts';

let suite: SessionSuite;
beforeAll(async () => {
  suite = await startSessionSuite();
});
afterAll(() => suite.stop());

/** One device of each kind. */
async function devices(user: TestUser) {
  const [jwt, opaque] = [await suite.jwt(user, 'phone'), await suite.opaque(user, 'terminal')];
  return { jwt, opaque };
}

const end = (which: string, token: string) => suite.api.delete(`/v1/sessions${which}`, token);
const good = async (...tokens: { access_token: string }[]) =>
  Promise.all(tokens.map(async ({ access_token }) => (await suite.verify(access_token)) === 200));

test('one by one: the ended one is refused with all its tokens, the others live', async () => {
  const user = await suite.newUser();
  const [{ jwt, opaque }, rest] = [await devices(user), await devices(user)];
  expect((await end(`/${jwt.session.id}`, rest.opaque.access_token)).statusCode).toBe(204);
  expect(await good(jwt, opaque, rest.jwt, rest.opaque)).toEqual([false, true, true, true]);
  expect(await suite.refusal(jwt.refresh_token)).toEqual([401, 'session_revoked']);
  expect((await end(`/${opaque.session.id}`, rest.jwt.access_token)).statusCode).toBe(204);
  expect(await good(jwt, opaque, rest.jwt, rest.opaque)).toEqual([false, false, true, true]);
  expect((await suite.refresh(rest.jwt.refresh_token)).statusCode).toBe(200);
  await suite.expectAgreement(user);
});

test('the current one, of either kind', async () => {
  const user = await suite.newUser();
  const [{ jwt, opaque }, rest] = [await devices(user), await devices(user)];
  expect((await end('/current', jwt.access_token)).statusCode).toBe(204);
  expect((await end('/current', opaque.access_token)).statusCode).toBe(204);
  expect(await good(jwt, opaque, rest.jwt, rest.opaque)).toEqual([false, false, true, true]);
  expect((await end('/current', opaque.access_token)).json().code).toBe('invalid_token');
  expect((await suite.listed(user.id)).map(({ id }) => id).sort()).toEqual(
    [rest.jwt.session.id, rest.opaque.session.id].sort(),
  );
  await suite.expectAgreement(user);
});

test('all but the current, of either kind', async () => {
  const user = await suite.newUser();
  const [{ jwt, opaque }, rest] = [await devices(user), await devices(user)];
  expect((await end('?except=current', jwt.access_token)).statusCode).toBe(204);
  expect(await good(jwt, opaque, rest.jwt, rest.opaque)).toEqual([true, false, false, false]);
  expect((await suite.refresh(jwt.refresh_token)).statusCode).toBe(200);
  expect(await suite.refusal(rest.jwt.refresh_token)).toEqual([401, 'session_revoked']);
  const kept = await suite.opaque(user);
  expect((await end('?except=current', kept.access_token)).statusCode).toBe(204);
  expect(await good(jwt, kept)).toEqual([false, true]);
  await suite.expectAgreement(user);
});

test('all together, and nobody else’s', async () => {
  const [user, stranger] = [await suite.newUser(), await suite.newUser()];
  const [{ jwt, opaque }, theirs] = [await devices(user), await devices(stranger)];
  expect((await end('', opaque.access_token)).statusCode).toBe(204);
  expect(await good(jwt, opaque, theirs.jwt, theirs.opaque)).toEqual([false, false, true, true]);
  expect(await suite.refusal(jwt.refresh_token)).toEqual([401, 'session_revoked']);
  expect((await suite.refresh(theirs.jwt.refresh_token)).statusCode).toBe(200);
  expect(await suite.listed(user.id)).toEqual([]);
  await suite.expectAgreement(user);
  await suite.expectAgreement(stranger);
});

test('another user’s and one nobody has are alike unknown, and nothing ends', async () => {
  const [user, stranger] = [await suite.newUser(), await suite.newUser()];
  const mine = await suite.jwt(user);
  const theirs = await devices(stranger);
  for (const id of [theirs.jwt.session.id, theirs.opaque.session.id, 'AAAAAAAAAAAAAAAAAAAAAA', 'currentx', '%7B%7D']) {
    const response = await end(`/${id}`, mine.access_token);
    expect([response.statusCode, response.json().code], id).toEqual([404, 'session_unknown']);
  }
  expect(await good(mine, theirs.jwt, theirs.opaque)).toEqual([true, true, true]);
});

test('a mistyped query ends nothing', async () => {
  const tokens = await suite.jwt(await suite.newUser());
  const response = await end('?except=curent', tokens.access_token);
  expect(response.statusCode).toBe(400);
  expect(response.json().errors[0].pointer).toBe('/query/except');
  expect(await good(tokens)).toEqual([true]);
});

test('is known to the other instance too, without it asking anyone; to an opaque token at once', async () => {
  const user = await suite.newUser();
  const { jwt, opaque } = await devices(user);
  for (const { access_token } of [jwt, opaque]) expect(await suite.verify(access_token, suite.other)).toBe(200);
  expect((await end('/current', opaque.access_token)).statusCode).toBe(204);
  expect(await suite.verify(opaque.access_token, suite.other)).toBe(401);
  expect((await end('/current', jwt.access_token)).statusCode).toBe(204);
  await vi.waitFor(async () => expect(await suite.verify(jwt.access_token, suite.other)).toBe(401), {
    timeout: 5000,
    interval: 2,
  });
});

test('is known to an instance that starts afterwards', async () => {
  const tokens = await suite.jwt(await suite.newUser());
  await end('/current', tokens.access_token);
  expect(await suite.verify(tokens.access_token, await testApp(suite.stores))).toBe(401);
});
