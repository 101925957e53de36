/** The four ways a refresh is refused, told apart; and that none but real reuse counts as theft. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createKeyring } from '../../src/domain/keyring.ts';
import { encodeRefreshToken } from '../../src/domain/refresh-token.ts';
import { decoded, type TokenResponse } from '../accounts.ts';
import { testApp } from '../test-app.ts';
import { type SessionSuite, startSessionSuite, type TestUser } from './session-suite.ts';

const DAY = 86_400;

let suite: SessionSuite;
beforeAll(async () => {
  suite = await startSessionSuite();
});
afterAll(() => suite.stop());

/** A session that has rotated twice, longer ago than the grace: `first` is a token a thief may hold, `third` the good one. */
async function rotated(user: TestUser) {
  const first = await suite.jwt(user);
  const second = await suite.refreshed(first);
  const third = await suite.refreshed(second);
  await suite.rotatedEarlier(first, 31);
  return { first, second, third };
}

describe('a token replaced longer ago than the grace', () => {
  test('is refused as reused and ends that session with all its tokens, and only that one', async () => {
    const user = await suite.newUser();
    const { first, second, third } = await rotated(user);
    const [jwt, opaque] = [await suite.jwt(user), await suite.opaque(user)];
    expect(await suite.refusal(first.refresh_token)).toEqual([401, 'refresh_token_reused']);
    for (const { access_token } of [first, second, third]) expect(await suite.verify(access_token)).toBe(401);
    expect(await suite.refusal(third.refresh_token)).toEqual([401, 'session_revoked']);
    expect([await suite.verify(jwt.access_token), await suite.verify(opaque.access_token)]).toEqual([200, 200]);
    expect((await suite.refresh(jwt.refresh_token)).statusCode).toBe(200);
    await suite.expectAgreement(user);
  });

  test('is theft once: replayed again it is a token of a session that has ended', async () => {
    const user = await suite.newUser();
    const { first } = await rotated(user);
    expect(await suite.refusal(first.refresh_token)).toEqual([401, 'refresh_token_reused']);
    for (const instance of [suite.api, suite.other])
      expect(await suite.refusal(first.refresh_token, instance)).toEqual([401, 'session_revoked']);
    const reused = (await suite.auditTypes(user)).filter((type) => type === 'token.refresh_reused');
    expect(reused).toHaveLength(1);
  });
});

test('a session that came back as it was before a refresh has ended once its newer token shows it: the replaced one, good again, opens nothing', async () => {
  const user = await suite.newUser();
  const first = await suite.jwt(user);
  const second = await suite.refreshed(first);
  const session = suite.keys.session(user.id, first.session.id);
  // As an older copy of Redis has it, of which nothing else is missed.
  await suite.redis.hset(session, 'counter', 0);
  await suite.redis.hdel(session, 'rotated', 'earlier');
  expect(await suite.refusal(second.refresh_token)).toEqual([401, 'session_revoked']);
  expect(await suite.refusal(first.refresh_token)).toEqual([401, 'session_revoked']);
  for (const { access_token } of [first, second]) expect(await suite.verify(access_token)).toBe(401);
  await suite.expectAgreement(user);
});

/** Each ends the session of `victim`; `spares`: the user's other session lives. */
const ENDS: {
  name: string;
  spares: boolean;
  end: (user: TestUser, victim: TokenResponse, by: TokenResponse) => unknown;
}[] = [
  {
    name: 'logged out',
    spares: true,
    end: (_user, victim) => suite.api.delete('/v1/sessions/current', victim.access_token),
  },
  {
    name: 'ended from another device',
    spares: true,
    end: (_user, victim, by) => suite.api.delete(`/v1/sessions/${victim.session.id}`, by.access_token),
  },
  {
    name: 'ended with all others',
    spares: true,
    end: (_user, _victim, by) => suite.api.delete('/v1/sessions?except=current', by.access_token),
  },
  {
    name: 'ended with all',
    spares: false,
    end: (_user, _victim, by) => suite.api.delete('/v1/sessions', by.access_token),
  },
  {
    name: 'ended by an operator',
    spares: true,
    end: ({ id }, victim) => suite.act('DELETE', `/users/${id}/sessions/${victim.session.id}`),
  },
  {
    name: 'denied by the jti of an access token',
    spares: true,
    end: (_user, victim) => suite.act('POST', '/tokens/deny', { jti: decoded(victim.access_token).claims.jti }),
  },
  {
    name: 'cut off',
    spares: false,
    end: ({ id }) => suite.act('POST', `/users/${id}/revocations`),
  },
  {
    name: 'suspended',
    spares: false,
    end: ({ id }) => suite.act('PUT', `/users/${id}/suspension`, {}),
  },
  {
    name: 'suspended and free again',
    spares: false,
    async end({ id }) {
      await suite.act('PUT', `/users/${id}/suspension`, {});
      await suite.act('DELETE', `/users/${id}/suspension`);
    },
  },
];

describe('a session that was ended', () => {
  test.each(ENDS)('because $name says so to every token of it, old or new, and nobody calls it theft', async (way) => {
    const user = await suite.newUser();
    const { first, second, third } = await rotated(user);
    const bystander = await suite.jwt(user);
    await way.end(user, third, bystander);
    for (const instance of [suite.api, suite.other])
      for (const { refresh_token } of [first, second, third])
        expect(await suite.refusal(refresh_token, instance)).toEqual([401, 'session_revoked']);
    expect(await suite.auditTypes(user)).not.toContain('token.refresh_reused');
    expect(await suite.verify(bystander.access_token)).toBe(way.spares ? 200 : 401);
    expect((await suite.refresh(bystander.refresh_token)).statusCode).toBe(way.spares ? 200 : 401);
    await suite.expectAgreement(user);
  });

  test('still says so once nothing of it is left in Redis', async () => {
    const user = await suite.newUser();
    const { first, third } = await rotated(user);
    await suite.api.delete('/v1/sessions/current', third.access_token);
    await suite.redis.del(suite.keys.endedSessions(user.id));
    for (const { refresh_token } of [first, third])
      expect(await suite.refusal(refresh_token)).toEqual([401, 'session_revoked']);
  });
});

describe('a session that is too old', () => {
  test('by idling is expired, for every token of it, and nobody calls it theft', async () => {
    const user = await suite.newUser();
    const { first, third } = await rotated(user);
    const bystander = await suite.jwt(user);
    await suite.age(user, third.session.id, 14 * DAY);
    for (const tokens of [first, third, first])
      expect(await suite.refusal(suite.earlier(tokens, 14 * DAY).refresh_token)).toEqual([401, 'session_expired']);
    expect(await suite.auditTypes(user)).not.toContain('token.refresh_reused');
    expect(await suite.verify(bystander.access_token)).toBe(200);
  });

  test('by SESSION_MAX_AGE is expired however fresh its chain', async () => {
    const user = await suite.newUser();
    let token: { refresh_token: string } = await suite.jwt(user);
    const { sessionId } = suite.contentOf(token);
    for (let day = 10; day <= 20; day += 10) {
      await suite.age(user, sessionId, 10 * DAY);
      token = await suite.refreshed(suite.earlier(token, 10 * DAY));
    }
    await suite.age(user, sessionId, 10 * DAY);
    expect(await suite.refusal(suite.earlier(token, 10 * DAY).refresh_token)).toEqual([401, 'session_expired']);
    expect(await suite.left(user, sessionId)).toBeUndefined();
  });

  test('by a SESSION_MAX_AGE that was shortened ends now, and every answer about it is expired', async () => {
    const user = await suite.newUser();
    const { first, third } = await rotated(user);
    const bystander = await suite.jwt(user);
    const strict = await testApp({ ...suite.stores, env: { SESSION_MAX_AGE: String(3 * DAY) } });
    await suite.age(user, third.session.id, 3 * DAY);
    // An old token of an expired session is no theft either.
    for (const tokens of [first, third, first, third])
      expect(await suite.refusal(suite.earlier(tokens, 3 * DAY).refresh_token, strict)).toEqual([
        401,
        'session_expired',
      ]);
    expect(await suite.left(user, third.session.id)).toBeUndefined();
    expect(await suite.auditTypes(user, strict)).not.toContain('token.refresh_reused');
    expect((await suite.refresh(bystander.refresh_token, strict)).statusCode).toBe(200);
    await suite.expectAgreement(user);
  });
});

describe('what is no refresh token of this system', () => {
  test('is invalid: other kinds of token, another key’s, and noise', async () => {
    const user = await suite.newUser();
    const [jwt, opaque] = [await suite.jwt(user), await suite.opaque(user)];
    const stranger = createKeyring(Buffer.alloc(32, 8));
    for (const token of [
      jwt.access_token,
      opaque.access_token,
      encodeRefreshToken(stranger, suite.contentOf(jwt)),
      jwt.refresh_token.slice(4),
      jwt.refresh_token.toUpperCase(),
      `${jwt.refresh_token}=`,
      ` ${jwt.refresh_token}`,
      'x',
      'x'.repeat(4096),
    ])
      expect(await suite.refusal(token), token.slice(0, 12)).toEqual([401, 'invalid_refresh_token']);
    expect((await suite.refresh(jwt.refresh_token)).statusCode).toBe(200);
  });

  test('is invalid with a single character changed, wherever', async () => {
    const { refresh_token } = await suite.jwt(await suite.newUser());
    for (let index = 0; index < refresh_token.length; index += 1) {
      const changed =
        refresh_token.slice(0, index) + (refresh_token[index] === 'A' ? 'B' : 'A') + refresh_token.slice(index + 1);
      expect(await suite.refusal(changed), changed).toEqual([401, 'invalid_refresh_token']);
    }
    expect((await suite.refresh(refresh_token)).statusCode).toBe(200);
  });
});
