import { afterAll, beforeAll, expect, test } from 'vitest';
import { decoded } from '../accounts.ts';
import { type SessionSuite, startSessionSuite } from './session-suite.ts';

let suite: SessionSuite;
beforeAll(async () => {
  suite = await startSessionSuite();
});
afterAll(() => suite.stop());

test('opens a session per device, and says which is the first', async () => {
  const user = await suite.newUser();
  const phone = await suite.jwt(user, 'phone');
  expect(phone).toMatchObject({
    token_type: 'Bearer',
    expires_in: 600,
    refresh_expires_in: 1_209_600,
    first_session: true,
  });
  expect(phone.session).toMatchObject({ device_name: 'phone' });
  const laptop = await suite.jwt(user, undefined, suite.other);
  expect(laptop).toMatchObject({ first_session: false, session: { device_name: null } });
  expect(laptop.session.id).not.toBe(phone.session.id);
  await suite.expectAgreement(user);
});

test('says first again once no session is left, whatever ended the others', async () => {
  const user = await suite.newUser();
  const phone = await suite.jwt(user);
  await suite.api.delete('/v1/sessions/current', phone.access_token);
  const laptop = await suite.opaque(user);
  expect(laptop.first_session).toBe(true);
  await suite.api.delete('/v1/sessions', laptop.access_token);
  const tablet = await suite.jwt(user);
  expect(tablet.first_session).toBe(true);
  await suite.age(user, tablet.session.id, 1_209_600);
  expect((await suite.jwt(user)).first_session).toBe(true);
});

test('tells a wrong password and an unknown address alike, and a pending account only to who has its password', async () => {
  const { email } = await suite.newUser();
  const { api } = suite;
  const wrong = await api.login(email, 'not the password at all');
  const unknown = await api.login(`nobody-${email}`);
  expect(wrong.statusCode).toBe(401);
  expect({ ...wrong.json(), request_id: '' }).toEqual({ ...unknown.json(), request_id: '' });
  expect(wrong.json().code).toBe('invalid_credentials');
  const pending = `pending-${email}`;
  await api.register(pending);
  expect((await api.login(pending)).json().code).toBe('account_not_activated');
  expect((await api.login(pending, 'not the password at all')).json().code).toBe('invalid_credentials');
});

test('is never kept by a cache', async () => {
  const { email } = await suite.newUser();
  expect((await suite.api.login(email)).headers['cache-control']).toBe('no-store');
});

test('gives an access token with exactly the claims of the contract', async () => {
  const user = await suite.newUser();
  const tokens = await suite.jwt(user);
  const { header, claims } = decoded(tokens.access_token);
  expect(header).toEqual({ alg: 'ES256', typ: 'at+jwt', kid: expect.any(String) });
  expect(Object.keys(claims).sort()).toEqual([
    'aud',
    'client_id',
    'exp',
    'iat',
    'iss',
    'jti',
    'orig_iat',
    'scope',
    'sid',
    'sub',
  ]);
  expect(claims).toMatchObject({
    iss: 'https://auth.example.test',
    aud: 'https://auth.example.test',
    sub: user.id,
    sid: tokens.session.id,
  });
  expect(Number(claims.exp) - Number(claims.iat)).toBe(600);
  expect(claims.orig_iat).toBe(claims.iat);
});
