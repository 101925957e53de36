/**
 * What systems that revoke JWTs in the manner of Django REST framework JWT test (`orig_iat` and a refresh limit, a blacklist of single
 * tokens, tokens blocked by their date of issue), through Latchkey's API. And what drf-jwt got wrong (CVE-2020-10594): a denied token
 * could be refreshed into one that was not.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decoded, type TokenResponse } from '../accounts.ts';
import { expectProblem } from '../expect-problem.ts';
import { type SessionSuite, startSessionSuite, type TestUser } from '../sessions/session-suite.ts';
import { testApp } from '../test-app.ts';

const DAY = 86_400;

const POLL = { timeout: 5000 };

let suite: SessionSuite;
beforeAll(async () => {
  suite = await startSessionSuite();
});
afterAll(() => suite.stop());

const deny = (body: object) => suite.act('POST', '/tokens/deny', body);
const jtiOf = ({ access_token }: TokenResponse) => String(decoded(access_token).claims.jti);
const inDays = (days: number) => new Date(Date.now() + days * DAY * 1000).toISOString();
const cutOff = (user: TestUser, issued_before?: string) =>
  suite.act('POST', `/users/${user.id}/revocations`, issued_before === undefined ? {} : { issued_before });

describe('denying one token', () => {
  test.each(['by itself', 'by its jti'])('%s, then using it: 401, on every instance', async (how) => {
    const user = await suite.newUser();
    const tokens = await suite.jwt(user);
    for (const instance of [suite.api, suite.other])
      expect(await suite.verify(tokens.access_token, instance)).toBe(200);
    const body = how === 'by itself' ? { token: tokens.access_token } : { jti: jtiOf(tokens) };
    expect((await deny(body)).statusCode).toBe(204);
    expectProblem(await suite.api.get('/v1/verify', tokens.access_token), { status: 401, code: 'session_revoked' });
    expectProblem(await suite.api.get('/v1/me', tokens.access_token), { status: 401, code: 'session_revoked' });
    expect(await suite.introspect(tokens.access_token)).toEqual({ active: false });
    await expect.poll(() => suite.verify(tokens.access_token, suite.other), POLL).toBe(401);
  });

  test('can be repeated, and leaves the user’s other devices and everybody else alone', async () => {
    const [user, stranger] = [await suite.newUser(), await suite.newUser()];
    const [tokens, sibling] = [await suite.jwt(user), await suite.jwt(user)];
    const theirs = await suite.jwt(stranger);
    for (let times = 0; times < 2; times += 1) expect((await deny({ jti: jtiOf(tokens) })).statusCode).toBe(204);
    for (const { access_token } of [sibling, theirs]) expect(await suite.verify(access_token)).toBe(200);
    for (const { refresh_token } of [sibling, theirs])
      expect((await suite.refresh(refresh_token)).statusCode).toBe(200);
  });

  test('also ends what was refreshed from it, and lets nothing more be (CVE-2020-10594)', async () => {
    const user = await suite.newUser();
    const first = await suite.jwt(user);
    const second = await suite.refreshed(first);
    const third = await suite.refreshed(second);
    expect((await deny({ token: first.access_token })).statusCode).toBe(204);
    for (const { access_token } of [first, second, third]) expect(await suite.verify(access_token)).toBe(401);
    for (const { refresh_token } of [first, second, third])
      expect(await suite.refusal(refresh_token)).toEqual([401, 'session_revoked']);
  });

  test('spares what was issued before it in the same session, but nothing is refreshed any more', async () => {
    const user = await suite.newUser();
    const first = await suite.jwt(user);
    const second = await suite.refreshed(first);
    expect((await deny({ token: second.access_token })).statusCode).toBe(204);
    expect([await suite.verify(first.access_token), await suite.verify(second.access_token)]).toEqual([200, 401]);
    expect(await suite.refusal(second.refresh_token)).toEqual([401, 'session_revoked']);
  });

  test('does not keep the user from logging in', async () => {
    const user = await suite.newUser();
    await deny({ token: (await suite.jwt(user)).access_token });
    expect(await suite.verify((await suite.jwt(user)).access_token)).toBe(200);
  });

  test('takes the canonical spelling of a jti only, so that one token is one entry', async () => {
    const tokens = await suite.jwt(await suite.newUser());
    const jti = jtiOf(tokens);
    const last = jti.at(-1) ?? '';
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    // The last character has two bits to spare: three more spellings decode to the same bytes.
    const twins = [1, 2, 3].map((bits) => jti.slice(0, -1) + alphabet[alphabet.indexOf(last) + bits]);
    for (const twin of twins) expect(Buffer.from(twin, 'base64url')).toEqual(Buffer.from(jti, 'base64url'));
    for (const spelling of [...twins, `${jti}=`, ` ${jti}`, jti.slice(0, -1), jti.replace('-', '+'), 'x'])
      if (spelling !== jti) expectProblem(await deny({ jti: spelling }), { status: 400, code: 'invalid_request' });
    expect(await suite.verify(tokens.access_token)).toBe(200);
  });
});

describe('refreshing', () => {
  test('keeps orig_iat, and the token it replaced stays good', async () => {
    const first = await suite.jwt(await suite.newUser());
    const second = await suite.refreshed(first);
    const claims = [first, second].map(({ access_token }) => decoded(access_token).claims);
    expect(claims[1]?.orig_iat).toBe(claims[0]?.orig_iat);
    expect(claims[0]?.orig_iat).toBe(claims[0]?.iat);
    expect(await suite.verify(first.access_token)).toBe(200);
  });

  test('past the maximum is refused, though the token is of this minute', async () => {
    const user = await suite.newUser();
    const tokens = await suite.jwt(user);
    const strict = await testApp({ ...suite.stores, env: { SESSION_MAX_AGE: '3600' } });
    await suite.age(user, tokens.session.id, 3500);
    const young = await suite.refreshed(suite.earlier(tokens, 3500), strict);
    await suite.age(user, tokens.session.id, 100);
    const old = suite.earlier(young, 100);
    expect(await suite.refusal(old.refresh_token, strict)).toEqual([401, 'session_expired']);
  });

  test('again and again does not outlive the maximum, however dense the chain', async () => {
    const user = await suite.newUser();
    const strict = await testApp({ ...suite.stores, env: { SESSION_MAX_AGE: '3600' } });
    let tokens: { refresh_token: string } = await suite.jwt(user, undefined, strict);
    const { sessionId } = suite.contentOf(tokens);
    const outcomes: (number | string)[] = [];
    for (let minute = 10; minute <= 80; minute += 10) {
      await suite.age(user, sessionId, 600);
      tokens = suite.earlier(tokens, 600);
      const response = await suite.refresh(tokens.refresh_token, strict);
      outcomes.push(response.statusCode === 200 ? minute : response.json().code);
      if (response.statusCode === 200) tokens = response.json();
    }
    expect(outcomes).toEqual([10, 20, 30, 40, 50, 'session_expired', 'session_expired', 'session_expired']);
    await suite.expectAgreement(user);
  });
});

describe('cutting off', () => {
  test('now refuses what was issued so far, and lets the next login in', async () => {
    const [user, stranger] = [await suite.newUser(), await suite.newUser()];
    const before = [await suite.jwt(user), await suite.jwt(user)];
    const theirs = await suite.jwt(stranger);
    expect((await cutOff(user)).statusCode).toBe(200);
    const after = await suite.jwt(user);
    expect(after.first_session).toBe(true);
    for (const { access_token, refresh_token } of before) {
      expect(await suite.verify(access_token)).toBe(401);
      expect(await suite.refusal(refresh_token)).toEqual([401, 'session_revoked']);
    }
    for (const { access_token } of [after, theirs]) expect(await suite.verify(access_token)).toBe(200);
    expect((await suite.refresh(after.refresh_token)).statusCode).toBe(200);
  });

  test('at yesterday refuses nothing of today', async () => {
    const user = await suite.newUser();
    const today = await suite.jwt(user);
    expect((await cutOff(user, inDays(-1))).statusCode).toBe(200);
    expect(await suite.verify(today.access_token)).toBe(200);
    expect((await suite.refresh(today.refresh_token)).statusCode).toBe(200);
  });

  test('at an instant between two logins refuses the first and spares the second', async () => {
    const user = await suite.newUser();
    const first = await suite.jwt(user);
    const second = await suite.jwt(user);
    // Instants are told in milliseconds: the session is made to have begun in one of its own.
    const between = new Date(Date.parse(second.session.created_at) - 1).toISOString();
    expect(Date.parse(first.session.created_at)).toBeLessThan(Date.parse(second.session.created_at) - 1);
    expect((await cutOff(user, between)).json()).toEqual({ tokens_valid_from: between });
    expect([await suite.verify(first.access_token), await suite.verify(second.access_token)]).toEqual([401, 200]);
    expect(await suite.refusal(first.refresh_token)).toEqual([401, 'session_revoked']);
    expect((await suite.refresh(second.refresh_token)).statusCode).toBe(200);
    await suite.expectAgreement(user);
  });

  test('at the instant a session says it began refuses it', async () => {
    const user = await suite.newUser();
    const { access_token, session } = await suite.jwt(user);
    expect((await cutOff(user, session.created_at)).json()).toEqual({ tokens_valid_from: session.created_at });
    expect(await suite.verify(access_token)).toBe(401);
  });

  test('at tomorrow refuses today’s tokens, and today’s logins; tomorrow’s it lets in', async () => {
    const user = await suite.newUser();
    const today = await suite.jwt(user);
    const tomorrow = inDays(1);
    expect((await cutOff(user, tomorrow)).json()).toEqual({ tokens_valid_from: tomorrow });
    expect(await suite.verify(today.access_token)).toBe(401);
    expect(await suite.refusal(today.refresh_token)).toEqual([401, 'session_revoked']);
    const refused = await suite.api.login(user.email);
    expectProblem(refused, { status: 403, code: 'account_suspended' });
    expect(refused.json().until).toBe(tomorrow);

    // Tomorrow: everything that was noted of the cut-off lies a day further back.
    const gate = suite.keys.gate(user.id);
    for (const field of ['closed_until', 'cutoff', 'last_issued'])
      await suite.redis.hset(gate, field, Number(await suite.redis.hget(gate, field)) - (DAY + 1) * 1_000_000);
    await suite.probe.rows(
      `UPDATE users SET login_closed_until = login_closed_until - interval '86401 s',
         tokens_valid_from = tokens_valid_from - interval '86401 s' WHERE id = $1`,
      [user.id],
    );
    const next = await suite.jwt(user);
    for (const instance of [suite.api, suite.other]) expect(await suite.verify(next.access_token, instance)).toBe(200);
    expect((await suite.refresh(next.refresh_token)).statusCode).toBe(200);
    expect(await suite.verify(today.access_token)).toBe(401);
    expect(await suite.refusal(today.refresh_token)).toEqual([401, 'session_revoked']);
  });

  test('at tomorrow, asked for twice or followed by an earlier one, still ends tomorrow', async () => {
    const user = await suite.newUser();
    const tomorrow = inDays(1);
    for (const at of [tomorrow, undefined, inDays(-1), tomorrow]) expect((await cutOff(user, at)).statusCode).toBe(200);
    expect((await suite.api.login(user.email)).json().until).toBe(tomorrow);
  });

  test('is one entry, however many tokens there are', async () => {
    const user = await suite.newUser();
    const tokens = [];
    for (let n = 0; n < 20; n += 1) tokens.push(await suite.jwt(user));
    const length = () => suite.redis.xlen(suite.keys.revocations);
    const before = await length();
    await cutOff(user);
    expect((await length()) - before).toBe(1);
    for (const { access_token } of tokens) expect(await suite.verify(access_token)).toBe(401);
  });
});
