/** A session's end that could not be written: said so, and completed by whoever comes again. */
import { tellAll } from '@latchkey/dev-stack/test-redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decoded } from '../accounts.ts';
import { PASSWORD, testApp } from '../test-app.ts';
import { type SessionSuite, startSessionSuite } from './session-suite.ts';

let suite: SessionSuite;
beforeAll(async () => {
  suite = await startSessionSuite();
});
afterAll(() => suite.stop());

/** Runs something while Redis refuses these commands. */
async function forbidden(commands: readonly string[], during: () => Promise<void>): Promise<void> {
  const rule = (sign: '-' | '+') =>
    tellAll(suite.redis, (server) => server.acl('SETUSER', 'default', ...commands.map((command) => sign + command)));
  await rule('-');
  try {
    await during();
  } finally {
    await rule('+');
  }
}

const logout = (token: string) => suite.api.delete('/v1/sessions/current', token);

test.each([
  ['the session', ['evalsha', 'eval']],
  ['the revocation log', ['xadd']],
])('to %s is 503, never 204, and can be repeated until it is', async (_name, commands) => {
  const tokens = await suite.jwt(await suite.newUser());
  await forbidden(commands, async () => {
    const response = await logout(tokens.access_token);
    expect(response.statusCode).toBe(503);
    expect(response.headers['retry-after']).toBe('2');
    expect(await suite.verify(tokens.access_token)).toBe(200);
  });
  expect((await logout(tokens.access_token)).statusCode).toBe(204);
  expect(await suite.verify(tokens.access_token)).toBe(401);
  expect(await suite.refusal(tokens.refresh_token)).toEqual([401, 'session_revoked']);
});

test('by theft is completed when the thief or the owner comes again', async () => {
  const stolen = await suite.jwt(await suite.newUser());
  const successor = await suite.refreshed(stolen);
  await suite.rotatedEarlier(stolen, 31);
  await forbidden(['xadd'], async () => {
    expect((await suite.refresh(stolen.refresh_token)).statusCode).toBe(503);
  });
  expect(await suite.refusal(successor.refresh_token)).toEqual([401, 'session_revoked']);
  expect(await suite.verify(successor.access_token)).toBe(401);
});

test('by eviction is completed by the next login', async () => {
  const limited = await testApp({ ...suite.stores, env: { MAX_SESSIONS_PER_USER: '1' } });
  const user = await suite.newUser();
  const evicted = await suite.jwt(user, undefined, limited);
  await forbidden(['xadd'], async () => {
    expect((await limited.login(user.email)).statusCode).toBe(503);
  });
  await suite.jwt(user, undefined, limited);
  expect(await suite.verify(evicted.access_token, limited)).toBe(401);
});

test('of another device is completed by repeating the call', async () => {
  const user = await suite.newUser();
  const [phone, laptop] = [await suite.jwt(user), await suite.jwt(user)];
  const end = () => suite.api.delete(`/v1/sessions/${phone.session.id}`, laptop.access_token);
  await forbidden(['xadd'], async () => {
    expect((await end()).statusCode).toBe(503);
  });
  expect((await end()).statusCode).toBe(204);
  expect(await suite.verify(phone.access_token)).toBe(401);
});

test('of every other device is completed by repeating the call', async () => {
  const user = await suite.newUser();
  const [phone, laptop] = [await suite.jwt(user), await suite.jwt(user)];
  const end = () => suite.api.delete('/v1/sessions?except=current', laptop.access_token);
  await forbidden(['xadd'], async () => {
    expect((await end()).statusCode).toBe(503);
  });
  expect((await end()).statusCode).toBe(204);
  expect([await suite.verify(phone.access_token), await suite.verify(laptop.access_token)]).toEqual([401, 200]);
});

test('of every device is completed by repeating the call', async () => {
  const user = await suite.newUser();
  const [phone, laptop] = [await suite.jwt(user), await suite.jwt(user)];
  const end = () => suite.api.delete('/v1/sessions', laptop.access_token);
  await forbidden(['xadd'], async () => {
    expect((await end()).statusCode).toBe(503);
  });
  expect((await end()).statusCode).toBe(204);
  for (const { access_token } of [phone, laptop]) expect(await suite.verify(access_token)).toBe(401);
});

describe('a cut-off that the log was not told of', () => {
  /** @returns two devices, whose sessions it has ended, and one that was not there yet. */
  async function untold() {
    const user = await suite.newUser();
    const [phone, laptop] = [await suite.jwt(user), await suite.jwt(user)];
    await forbidden(['xadd'], async () => {
      expect((await suite.api.delete('/v1/sessions', laptop.access_token)).statusCode).toBe(503);
    });
    expect([await suite.verify(phone.access_token), await suite.verify(laptop.access_token)]).toEqual([200, 200]);
    const refused = async () => [await suite.verify(phone.access_token), await suite.verify(laptop.access_token)];
    return { user, phone, laptop, refused };
  }

  test('is completed by ending the other devices, whose sessions are gone', async () => {
    const { laptop, refused } = await untold();
    expect((await suite.api.delete('/v1/sessions?except=current', laptop.access_token)).statusCode).toBe(204);
    expect(await refused()).toEqual([401, 401]);
  });

  test('is completed by ending one of them, which is not there any more', async () => {
    const { phone, laptop, refused } = await untold();
    expect((await suite.api.delete(`/v1/sessions/${phone.session.id}`, laptop.access_token)).statusCode).toBe(404);
    expect(await refused()).toEqual([401, 401]);
  });

  test('is completed by a new password', async () => {
    const { laptop, refused } = await untold();
    const bearer = { authorization: `Bearer ${laptop.access_token}` };
    const change = { current_password: PASSWORD, new_password: `${PASSWORD} and more` };
    expect((await suite.api.call('PUT', '/v1/me/password', change, bearer)).statusCode).toBe(204);
    expect(await refused()).toEqual([401, 401]);
  });

  test('is completed by denying one of its tokens', async () => {
    const { phone, refused } = await untold();
    const { jti } = decoded(phone.access_token).claims;
    expect((await suite.act('POST', '/tokens/deny', { jti })).statusCode).toBe(204);
    expect(await refused()).toEqual([401, 401]);
  });
});
