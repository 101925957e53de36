import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createKeyring } from '../src/domain/keyring.ts';
import { decodeRefreshToken, encodeRefreshToken, type RefreshTokenContent } from '../src/domain/refresh-token.ts';
import { activeUser, decoded, logIn, type TokenResponse } from './accounts.ts';
import { PASSWORD, startMailSide, startTestApp, type TestApp, testApp, testEnvironment } from './test-app.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
/** A second instance on the same stores. */
let other: TestApp;
let worker: Awaited<ReturnType<typeof side.startWorker>>;
let redis: ReturnType<typeof connectRedis>;
const keys = redisKeys();
let keyring: ReturnType<typeof createKeyring>;

beforeAll(async () => {
  side = await startMailSide();
  [api, other, worker] = await Promise.all([startTestApp(side), startTestApp(side), side.startWorker()]);
  redis = connectRedis(side.redisUrl, 'queueWorker', () => {});
  keyring = createKeyring(Buffer.from(testEnvironment(side).MASTER_KEY, 'base64'));
});
afterAll(async () => {
  redis.disconnect();
  await Promise.all([api.close(), other.close(), worker.stop()]);
  await side.stop();
});

const refresh = (refresh_token: string, instance = api) => instance.post('/v1/tokens/refresh', { refresh_token });
const verify = async (token: string, instance = api) => (await instance.get('/v1/verify', token)).statusCode;

function contentOf(tokens: TokenResponse): RefreshTokenContent {
  const content = decodeRefreshToken(keyring, tokens.refresh_token);
  if (!content) throw new Error('not a refresh token of this system');
  return content;
}

/** Moves the instants of a session back, as if its rotations had happened that long ago. */
async function rotatedEarlier(tokens: TokenResponse, seconds: number): Promise<void> {
  const { userId, sessionId } = contentOf(tokens);
  const key = keys.session(userId, sessionId);
  const rotations = (await redis.hget(key, 'rotations')) ?? '';
  const earlier = rotations.replaceAll(/=(\d+)/g, (_match, us) => `=${Number(us) - seconds * 1_000_000}`);
  await redis.hset(key, 'rotations', earlier);
}

describe('login', () => {
  test('opens a session per device, and says which is the first', async () => {
    const email = await activeUser(api, side);
    const phone = await logIn(api, email, 'phone');
    expect(phone).toMatchObject({
      token_type: 'Bearer',
      expires_in: 600,
      refresh_expires_in: 1_209_600,
      first_session: true,
    });
    expect(phone.session).toMatchObject({ device_name: 'phone' });
    const laptop = await logIn(other, email);
    expect(laptop).toMatchObject({ first_session: false, session: { device_name: null } });
    expect(laptop.session.id).not.toBe(phone.session.id);
  });

  test('tells a wrong password and an unknown address alike, and a pending account only to who has its password', async () => {
    const email = await activeUser(api, side);
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
    const response = await api.login(await activeUser(api, side));
    expect(response.headers['cache-control']).toBe('no-store');
  });

  test('gives an access token with exactly the claims of the contract', async () => {
    const tokens = await logIn(api, await activeUser(api, side));
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
      sid: tokens.session.id,
    });
    expect(Number(claims.exp) - Number(claims.iat)).toBe(600);
    expect(claims.orig_iat).toBe(claims.iat);
  });
});

describe('refresh', () => {
  test('gives the next pair, keeps orig_iat and the session, and leaves the old access token good', async () => {
    const first = await logIn(api, await activeUser(api, side), 'phone');
    const second: TokenResponse = (await refresh(first.refresh_token)).json();
    expect(second).toMatchObject({ session: first.session, first_session: false });
    expect(second.refresh_token).not.toBe(first.refresh_token);
    expect(decoded(second.access_token).claims.orig_iat).toBe(decoded(first.access_token).claims.orig_iat);
    expect(decoded(second.access_token).claims.jti).not.toBe(decoded(first.access_token).claims.jti);
    expect(await verify(first.access_token)).toBe(200);
    expect(await verify(second.access_token)).toBe(200);
  });

  test('of one token by 1000 callers over two instances gives one successor and no 401', async () => {
    const { refresh_token } = await logIn(api, await activeUser(api, side));
    const answers = await Promise.all(
      Array.from({ length: 1000 }, (_, index) => refresh(refresh_token, index % 2 ? api : other)),
    );
    expect(new Set(answers.map(({ statusCode }) => statusCode))).toEqual(new Set([200]));
    expect(new Set(answers.map((answer) => answer.json().refresh_token)).size).toBe(1);
  });

  test('whose reply was lost can be repeated, even after the successor was used', async () => {
    const first = await logIn(api, await activeUser(api, side));
    const second: TokenResponse = (await refresh(first.refresh_token)).json();
    const third: TokenResponse = (await refresh(second.refresh_token)).json();
    expect((await refresh(first.refresh_token)).json().refresh_token).toBe(second.refresh_token);
    expect((await refresh(second.refresh_token)).json().refresh_token).toBe(third.refresh_token);
    expect((await refresh(third.refresh_token)).statusCode).toBe(200);
  });

  test('with a token replaced longer ago than the grace ends that session, and only that one', async () => {
    const email = await activeUser(api, side);
    const [stolen, bystander] = [await logIn(api, email), await logIn(api, email)];
    const successor: TokenResponse = (await refresh(stolen.refresh_token)).json();
    await rotatedEarlier(stolen, 31);
    const reused = await refresh(stolen.refresh_token);
    expect([reused.statusCode, reused.json().code]).toEqual([401, 'refresh_token_reused']);
    expect(await verify(stolen.access_token)).toBe(401);
    expect(await verify(successor.access_token)).toBe(401);
    expect((await refresh(successor.refresh_token)).json().code).toBe('session_revoked');
    expect(await verify(bystander.access_token)).toBe(200);
    expect((await refresh(bystander.refresh_token)).statusCode).toBe(200);
  });

  test('just inside the grace is still the same successor', async () => {
    const first = await logIn(api, await activeUser(api, side));
    const second: TokenResponse = (await refresh(first.refresh_token)).json();
    await rotatedEarlier(first, 28);
    // The instant of issue is part of the token: what is given again is the token of that, earlier, instant.
    const again = await refresh(first.refresh_token);
    expect(again.statusCode).toBe(200);
    expect(contentOf(again.json())).toMatchObject({ counter: contentOf(second).counter });
  });

  test('past SESSION_MAX_AGE is refused however fresh the chain, and ends the session', async () => {
    const tokens = await logIn(api, await activeUser(api, side));
    const content = contentOf(tokens);
    const createdAt = content.createdAt - 2_592_000 * 1_000_000;
    await redis.hset(keys.session(content.userId, content.sessionId), 'created_at', String(createdAt));
    const response = await refresh(encodeRefreshToken(keyring, { ...content, createdAt }));
    expect([response.statusCode, response.json().code]).toEqual([401, 'session_expired']);
    expect(await redis.exists(keys.session(content.userId, content.sessionId))).toBe(0);
  });

  test('never promises a life past SESSION_MAX_AGE', async () => {
    const tokens = await logIn(api, await activeUser(api, side));
    const content = contentOf(tokens);
    const createdAt = content.createdAt - (2_592_000 - 60) * 1_000_000;
    await redis.hset(keys.session(content.userId, content.sessionId), 'created_at', String(createdAt));
    const response = await refresh(encodeRefreshToken(keyring, { ...content, createdAt }));
    expect(response.statusCode).toBe(200);
    expect(response.json().refresh_expires_in).toBeLessThanOrEqual(60);
    expect(response.json().refresh_expires_in).toBeGreaterThan(30);
  });

  test('tells a session that idled away from one that was ended', async () => {
    const tokens = await logIn(api, await activeUser(api, side));
    const content = contentOf(tokens);
    await redis.del(keys.session(content.userId, content.sessionId));
    expect((await refresh(tokens.refresh_token)).json().code).toBe('session_revoked');
    const idle = encodeRefreshToken(keyring, { ...content, issuedAt: content.issuedAt - 1_209_600 * 1_000_000 });
    expect((await refresh(idle)).json().code).toBe('session_expired');
  });

  test('of a session that was logged out is answered as that, not as theft', async () => {
    const tokens = await logIn(api, await activeUser(api, side));
    await api.delete('/v1/sessions/current', tokens.access_token);
    const response = await refresh(tokens.refresh_token);
    expect([response.statusCode, response.json().code]).toEqual([401, 'session_revoked']);
  });

  test('accepts no token with a single character changed', async () => {
    const { refresh_token } = await logIn(api, await activeUser(api, side));
    for (let index = 0; index < refresh_token.length; index += 1) {
      const changed =
        refresh_token.slice(0, index) + (refresh_token[index] === 'A' ? 'B' : 'A') + refresh_token.slice(index + 1);
      const response = await refresh(changed);
      expect([response.statusCode, response.json().code], changed).toEqual([401, 'invalid_refresh_token']);
    }
    expect((await refresh(refresh_token)).statusCode).toBe(200);
  });
});

describe('a user’s sessions', () => {
  test('are listed with their devices, the current one marked', async () => {
    const email = await activeUser(api, side);
    await logIn(api, email, 'phone');
    const laptop = await logIn(api, email, 'laptop');
    const { sessions } = (await api.get('/v1/sessions', laptop.access_token)).json();
    expect(sessions).toHaveLength(2);
    expect(sessions).toContainEqual({
      id: laptop.session.id,
      device_name: 'laptop',
      user_agent: 'lightMyRequest',
      ip: '127.0.0.1',
      token_format: 'jwt',
      created_at: laptop.session.created_at,
      last_seen_at: laptop.session.created_at,
      expires_at: expect.any(String),
      current: true,
    });
    expect(sessions.filter(({ current }: { current: boolean }) => current)).toHaveLength(1);
  });

  test('end one by one: the ended one is refused with all its tokens, the others live', async () => {
    const email = await activeUser(api, side);
    const [phone, laptop] = [await logIn(api, email), await logIn(api, email)];
    expect((await api.delete(`/v1/sessions/${phone.session.id}`, laptop.access_token)).statusCode).toBe(204);
    expect(await verify(phone.access_token)).toBe(401);
    expect((await refresh(phone.refresh_token)).json().code).toBe('session_revoked');
    expect(await verify(laptop.access_token)).toBe(200);
  });

  test('cannot be ended by another user', async () => {
    const [mine, theirs] = [
      await logIn(api, await activeUser(api, side)),
      await logIn(api, await activeUser(api, side)),
    ];
    const response = await api.delete(`/v1/sessions/${theirs.session.id}`, mine.access_token);
    expect([response.statusCode, response.json().code]).toEqual([404, 'session_unknown']);
    expect(await verify(theirs.access_token)).toBe(200);
  });

  test('end all but the current', async () => {
    const email = await activeUser(api, side);
    const [phone, laptop] = [await logIn(api, email), await logIn(api, email)];
    expect((await api.delete('/v1/sessions?except=current', laptop.access_token)).statusCode).toBe(204);
    expect(await verify(phone.access_token)).toBe(401);
    expect(await verify(laptop.access_token)).toBe(200);
    expect((await refresh(laptop.refresh_token)).statusCode).toBe(200);
  });

  test('end all together, and nobody else’s', async () => {
    const email = await activeUser(api, side);
    const bystander = await logIn(api, await activeUser(api, side));
    const [phone, laptop] = [await logIn(api, email), await logIn(api, email)];
    expect((await api.delete('/v1/sessions', laptop.access_token)).statusCode).toBe(204);
    for (const { access_token, refresh_token } of [phone, laptop]) {
      expect(await verify(access_token)).toBe(401);
      expect((await refresh(refresh_token)).json().code).toBe('session_revoked');
    }
    expect(await verify(bystander.access_token)).toBe(200);
  });

  test('a mistyped query ends nothing', async () => {
    const tokens = await logIn(api, await activeUser(api, side));
    const response = await api.delete('/v1/sessions?except=curent', tokens.access_token);
    expect(response.statusCode).toBe(400);
    expect(response.json().errors[0].pointer).toBe('/query/except');
    expect(await verify(tokens.access_token)).toBe(200);
  });

  test('are refused by the other instance too, without it asking anyone', async () => {
    const tokens = await logIn(api, await activeUser(api, side));
    expect(await verify(tokens.access_token, other)).toBe(200);
    expect((await api.delete('/v1/sessions/current', tokens.access_token)).statusCode).toBe(204);
    expect(await verify(tokens.access_token)).toBe(401);
    await vi.waitFor(async () => expect(await verify(tokens.access_token, other)).toBe(401), {
      timeout: 1000,
      interval: 2,
    });
  });

  test('are still refused by an instance that starts afterwards', async () => {
    const tokens = await logIn(api, await activeUser(api, side));
    await api.delete('/v1/sessions/current', tokens.access_token);
    const late = await testApp(side);
    expect(await verify(tokens.access_token, late)).toBe(401);
  });

  test('never exceed MAX_SESSIONS_PER_USER: the oldest goes, with its tokens, also when logins come at once', async () => {
    const limited = await testApp({ ...side, env: { MAX_SESSIONS_PER_USER: '3', RATE_LIMITS: 'off' } });
    const email = await activeUser(api, side);
    const oldest = await logIn(limited, email);
    await Promise.all(Array.from({ length: 20 }, () => logIn(limited, email)));
    const newest = await logIn(limited, email);
    const { sessions } = (await limited.get('/v1/sessions', newest.access_token)).json();
    expect(sessions).toHaveLength(3);
    expect(sessions.map(({ id }: { id: string }) => id)).toContain(newest.session.id);
    expect(await verify(oldest.access_token, limited)).toBe(401);
    const { userId } = contentOf(newest);
    const hashes = await redis.keys(`${keys.sessionPrefix(userId).replaceAll(/[[\]{}*?]/g, '\\$&')}*`);
    expect(hashes.map((key) => key.slice(keys.sessionPrefix(userId).length)).sort()).toEqual(
      (await redis.zrange(keys.sessions(userId), '0', '-1')).sort(),
    );
  });
});

describe('a logout that could not be written', () => {
  test.each([
    ['the session', ['-evalsha', '-eval'], ['+evalsha', '+eval']],
    ['the revocation log', ['-xadd'], ['+xadd']],
  ])('to %s is 503, never 204, and can be repeated until it is', async (_name, forbid, allow) => {
    const tokens = await logIn(api, await activeUser(api, side));
    await redis.acl('SETUSER', 'default', ...forbid);
    try {
      const response = await api.delete('/v1/sessions/current', tokens.access_token);
      expect(response.statusCode).toBe(503);
      expect(response.headers['retry-after']).toBe('2');
      expect(await verify(tokens.access_token)).toBe(200);
    } finally {
      await redis.acl('SETUSER', 'default', ...allow);
    }
    expect((await api.delete('/v1/sessions/current', tokens.access_token)).statusCode).toBe(204);
    expect(await verify(tokens.access_token)).toBe(401);
    expect((await refresh(tokens.refresh_token)).json().code).toBe('session_revoked');
  });

  test('by theft is completed when the thief or the owner comes again', async () => {
    const stolen = await logIn(api, await activeUser(api, side));
    const successor: TokenResponse = (await refresh(stolen.refresh_token)).json();
    await rotatedEarlier(stolen, 31);
    await redis.acl('SETUSER', 'default', '-xadd');
    try {
      expect((await refresh(stolen.refresh_token)).statusCode).toBe(503);
    } finally {
      await redis.acl('SETUSER', 'default', '+xadd');
    }
    expect((await refresh(successor.refresh_token)).json().code).toBe('session_revoked');
    expect(await verify(successor.access_token)).toBe(401);
  });

  test('by eviction is completed by the next login', async () => {
    const limited = await testApp({ ...side, env: { MAX_SESSIONS_PER_USER: '1' } });
    const email = await activeUser(api, side);
    const evicted = await logIn(limited, email);
    await redis.acl('SETUSER', 'default', '-xadd');
    try {
      expect((await limited.login(email)).statusCode).toBe(503);
    } finally {
      await redis.acl('SETUSER', 'default', '+xadd');
    }
    await logIn(limited, email);
    expect(await verify(evicted.access_token, limited)).toBe(401);
  });

  test('of another device is completed by repeating the call', async () => {
    const email = await activeUser(api, side);
    const [phone, laptop] = [await logIn(api, email), await logIn(api, email)];
    await redis.acl('SETUSER', 'default', '-xadd');
    try {
      expect((await api.delete(`/v1/sessions/${phone.session.id}`, laptop.access_token)).statusCode).toBe(503);
    } finally {
      await redis.acl('SETUSER', 'default', '+xadd');
    }
    expect((await api.delete(`/v1/sessions/${phone.session.id}`, laptop.access_token)).statusCode).toBe(204);
    expect(await verify(phone.access_token)).toBe(401);
  });
});

test('what is at rest opens nothing: no password, key or token stands in Redis, PostgreSQL or a log line', async () => {
  const email = await activeUser(api, side);
  const key = await side.activationKey(email);
  const first = await logIn(api, email);
  const second: TokenResponse = (await refresh(first.refresh_token)).json();
  const secrets = [PASSWORD, key, first.access_token, first.refresh_token, second.access_token, second.refresh_token];

  // A compressed value would hide what it holds.
  await redis.config('SET', 'rdbcompression', 'no');
  const dump: string[] = [...api.logs, ...other.logs, ...worker.output];
  for (const name of await redis.keys('*')) {
    dump.push(name, (await redis.dumpBuffer(name))?.toString('latin1') ?? '');
  }
  const rows = await api.dumpDatabase();
  dump.push(...rows);
  expect(rows.length).toBeGreaterThan(0);
  const all = dump.join('\n');
  // The dump does show what is there.
  expect(all).toContain(email);
  expect(all).toContain(first.session.id);
  expect(all).toContain('lightMyRequest');
  for (const secret of secrets) expect(all.includes(secret), secret.slice(0, 6)).toBe(false);
});
