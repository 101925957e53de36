import { randomUUID } from 'node:crypto';
import { keysOf, tellAll } from '@latchkey/dev-stack/test-redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { activeUser, addUser, decoded, duringChange, logIn, type TokenResponse } from './accounts.ts';
import { addClient, clientToken, postForm, type TestClient } from './clients.ts';
import { expectProblem } from './expect-problem.ts';
import { databaseProbe } from './mail-probe.ts';
import { PASSWORD, startMailSide, startTestApp, type TestApp } from './test-app.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
/** A second instance on the same stores. */
let other: TestApp;
let admin: TestClient;
let token: string;

beforeAll(async () => {
  side = await startMailSide();
  [api, other] = await Promise.all([startTestApp(side), startTestApp(side)]);
  admin = await addClient(side.databaseUrl, 'admin', 'introspect');
  token = await clientToken(api, admin);
});
afterAll(async () => {
  await Promise.all([api.close(), other.close()]);
  await side.stop();
});

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';
const act = (method: Method, url: string, payload?: object) =>
  api.call(method, `/v1/admin${url}`, payload, { authorization: `Bearer ${token}` });
const verify = async (accessToken: string, instance = api) =>
  (await instance.get('/v1/verify', accessToken)).statusCode;
const refresh = async ({ refresh_token }: TokenResponse) =>
  (await api.post('/v1/tokens/refresh', { refresh_token })).statusCode;

/** A user with two devices. */
async function twoDevices() {
  const email = await activeUser(api);
  const [phone, laptop] = [await logIn(api, email, 'phone'), await logIn(api, email, 'laptop')];
  return { email, phone, laptop, id: String(decoded(phone.access_token).claims.sub) };
}

/** What the audit log says the operator did to a user, the newest first. */
async function acts(id: string) {
  const { events } = (await act('GET', `/audit-events?user_id=${id}`)).json();
  return events.filter(({ actor }: { actor: { type: string } }) => actor.type === 'client');
}

const ROUTES: [Method, string][] = [
  ['GET', '/users'],
  ['GET', `/users/${randomUUID()}`],
  ['DELETE', `/users/${randomUUID()}`],
  ['POST', `/users/${randomUUID()}/revocations`],
  ['PUT', `/users/${randomUUID()}/suspension`],
  ['DELETE', `/users/${randomUUID()}/suspension`],
  ['GET', `/users/${randomUUID()}/sessions`],
  ['DELETE', `/users/${randomUUID()}/sessions/x`],
  ['POST', '/tokens/deny'],
  ['GET', '/audit-events'],
  ['GET', '/clients'],
  ['DELETE', '/clients/x'],
  ['GET', '/failed-mails'],
  ['GET', `/failed-mails/${randomUUID()}`],
  ['POST', `/failed-mails/${randomUUID()}/retry`],
  ['DELETE', `/failed-mails/${randomUUID()}`],
  ['GET', '/keys'],
  ['POST', '/keys/rotation'],
  ['DELETE', '/keys/x'],
];

describe('who may', () => {
  test('is asked here of every operators’ route of the OpenAPI document', async () => {
    const { paths } = (await api.get('/openapi.json')).json();
    const documented = Object.entries<object>(paths)
      .filter(([path]) => path.startsWith('/v1/admin/'))
      .flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`));
    const asked = ROUTES.map(([method, url]) => `${method} /v1/admin${url}`);
    const form = (route: string) => new RegExp(`^${route.replace(/\{\w+\}/g, '[^/]+')}$`);
    expect(documented.filter((route) => !asked.some((one) => form(route).test(one)))).toEqual([]);
    expect(documented).toHaveLength(asked.length);
  });

  test('nobody but a client with scope admin learns or changes anything, whatever else is wrong with the call', async () => {
    const { phone } = await twoDevices();
    const plain = await clientToken(api, await addClient(side.databaseUrl, 'introspect'));
    const narrowed = await clientToken(api, admin, 'introspect');
    for (const [method, url] of ROUTES) {
      const call = (bearer?: string) =>
        api.call(
          method,
          `/v1/admin${url}`,
          undefined,
          bearer === undefined ? {} : { authorization: `Bearer ${bearer}` },
        );
      expectProblem(await call(), { status: 401, code: 'missing_token' });
      expectProblem(await call('x'), { status: 401, code: 'invalid_token' });
      for (const bearer of [phone.access_token, plain, narrowed])
        expectProblem(await call(bearer), { status: 403, code: 'insufficient_scope' });
    }
  });

  test('what is asked of an unknown user is answered as that', async () => {
    const ofUsers = ROUTES.filter(([, url]) => url.startsWith('/users/'));
    for (const [method, url] of ofUsers) expectProblem(await act(method, url), { status: 404, code: 'user_unknown' });
    expectProblem(await act('GET', '/users/not-a-uuid'), {
      status: 400,
      code: 'invalid_request',
      pointer: '/params/id',
    });
  });
});

test('a user has one id: in capitals or as a URN it is refused by name, and nothing is done', async () => {
  const { id, phone } = await twoDevices();
  const before = await acts(id);
  for (const other of [id.toUpperCase(), `urn:uuid:${id}`, `{${id}}`, id.replaceAll('-', '')]) {
    const name = encodeURIComponent(other);
    for (const [method, url] of ROUTES.filter(([, url]) => url.startsWith('/users/')))
      expectProblem(await act(method, url.replace(/[0-9a-f-]{36}/, name), method === 'GET' ? undefined : {}), {
        status: 400,
        code: 'invalid_request',
        pointer: '/params/id',
      });
    expectProblem(await act('GET', `/audit-events?user_id=${name}`), {
      status: 400,
      code: 'invalid_request',
      pointer: '/query/user_id',
    });
  }
  expect(await acts(id)).toEqual(before);
  expect(await verify(phone.access_token)).toBe(200);
});

describe('looking', () => {
  test('pages go through all users once, the newest first', async () => {
    const made: string[] = [];
    for (let n = 0; n < 5; n += 1) {
      const { email } = await addUser(api, n % 2 === 0 ? 'pending' : 'active');
      made.unshift(email);
    }
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const page: { users: { email: string }[]; next_cursor: string | null } = (
        await act('GET', `/users?limit=2${cursor === null ? '' : `&cursor=${cursor}`}`)
      ).json();
      expect(page.users.length).toBeLessThanOrEqual(2);
      seen.push(...page.users.map(({ email }) => email));
      cursor = page.next_cursor;
    } while (cursor !== null);
    expect(seen.slice(0, 5)).toEqual(made);
    expect(new Set(seen).size).toBe(seen.length);
    for (const bad of ['x', 'eA', '%00'])
      expectProblem(await act('GET', `/users?cursor=${bad}`), {
        status: 400,
        code: 'invalid_request',
        pointer: '/query/cursor',
      });
    for (const bad of ['0', '201', '1.5', 'x'])
      expectProblem(await act('GET', `/users?limit=${bad}`), {
        status: 400,
        code: 'invalid_request',
        pointer: '/query/limit',
      });
  });

  test('a user is found by the address in any case, and by what it is', async () => {
    const { email, id } = await twoDevices();
    const found = (await act('GET', `/users?email=${encodeURIComponent(email.toUpperCase())}`)).json();
    expect(found).toMatchObject({ users: [{ id, email, status: 'active' }], next_cursor: null });
    const ask = async (status: string) => (await act('GET', `/users?email=${email}&status=${status}`)).json().users;
    expect(await ask('active')).toHaveLength(1);
    expect(await ask('pending')).toHaveLength(0);
    await act('PUT', `/users/${id}/suspension`, {});
    expect(await ask('active')).toHaveLength(0);
    expect(await ask('suspended')).toHaveLength(1);
  });

  test('one user is shown whole, without the password', async () => {
    const { email, id } = await twoDevices();
    const user = await act('GET', `/users/${id}`);
    expect(user.json()).toEqual({
      id,
      email,
      status: 'active',
      display_name: null,
      locale: 'en',
      created_at: expect.any(String),
      activated_at: expect.any(String),
      tokens_valid_from: null,
      suspended_until: null,
      suspension_reason: null,
    });
    expect(user.headers['cache-control']).toBe('no-store');
  });
});

describe('sessions and tokens', () => {
  test('sessions are listed, and one ended leaves the other', async () => {
    const { id, phone, laptop } = await twoDevices();
    const { sessions } = (await act('GET', `/users/${id}/sessions`)).json();
    expect(sessions.map(({ device_name }: { device_name: string }) => device_name).sort()).toEqual(['laptop', 'phone']);
    expect((await act('DELETE', `/users/${id}/sessions/${phone.session.id}`)).statusCode).toBe(204);
    expect([await verify(phone.access_token), await verify(laptop.access_token)]).toEqual([401, 200]);
    expect([await refresh(phone), await refresh(laptop)]).toEqual([401, 200]);
    expectProblem(await act('DELETE', `/users/${id}/sessions/nothing`), { status: 404, code: 'session_unknown' });
    expect(await acts(id)).toMatchObject([
      { type: 'session.ended', actor: { type: 'client', id: admin.id }, details: { session_id: phone.session.id } },
    ]);
  });

  test('a cut-off refuses what was issued until now and lets a new login in', async () => {
    const { id, email, phone, laptop } = await twoDevices();
    const bystander = await twoDevices();
    const response = await act('POST', `/users/${id}/revocations`);
    expect(response.statusCode).toBe(200);
    const validFrom = new Date(response.json().tokens_valid_from).getTime();
    expect(Math.abs(validFrom - Date.now())).toBeLessThan(10_000);
    for (const device of [phone, laptop])
      expect([await verify(device.access_token), await refresh(device)]).toEqual([401, 401]);
    expect(await verify((await logIn(api, email)).access_token)).toBe(200);
    expect(await verify(bystander.phone.access_token)).toBe(200);
    expect(await acts(id)).toMatchObject([{ type: 'user.tokens_revoked', details: { issued_before: null } }]);
  });

  test('a cut-off in the past spares what came after it; one to come closes login until then', async () => {
    const { id, email, phone } = await twoDevices();
    const past = await act('POST', `/users/${id}/revocations`, { issued_before: '2020-01-01T00:00:00Z' });
    expect(past.statusCode).toBe(200);
    expect(await verify(phone.access_token)).toBe(200);
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
    const future = await act('POST', `/users/${id}/revocations`, { issued_before: tomorrow });
    expect(future.json()).toEqual({ tokens_valid_from: tomorrow });
    expect(await verify(phone.access_token)).toBe(401);
    expectProblem(await api.login(email), { status: 403, code: 'account_suspended' });
    for (const issued_before of ['yesterday', '2026-13-01T00:00:00Z', '2016-12-31T23:59:60Z'])
      expectProblem(await act('POST', `/users/${id}/revocations`, { issued_before }), {
        status: 400,
        code: 'invalid_request',
        pointer: '/issued_before',
      });
  });

  test('one token is denied by itself or by its jti, of every kind, and nothing but tokens of ours', async () => {
    const { id, email, phone, laptop } = await twoDevices();
    const jti = String(decoded(laptop.access_token).claims.jti);
    const opaque = (await api.post('/v1/tokens', { email, password: PASSWORD, token_format: 'opaque' })).json();
    const machine = await clientToken(api, admin, 'introspect');
    const expires_at = new Date(Date.now() + 600_000).toISOString();
    for (const body of [
      { token: phone.access_token },
      { jti, expires_at },
      { token: opaque.access_token },
      { jti: String(decoded(machine).claims.jti) },
    ])
      expect((await act('POST', '/tokens/deny', body)).statusCode).toBe(204);
    for (const denied of [phone.access_token, laptop.access_token, opaque.access_token, machine])
      expect(await verify(denied)).toBe(401);
    expect([await refresh(phone), await refresh(laptop)]).toEqual([401, 401]);
    expect(await verify(token)).toBe(200);
    expect(await acts(id)).toHaveLength(3);
    const foreign = { token: `${phone.access_token.slice(0, -4)}AAAA` };
    expectProblem(await act('POST', '/tokens/deny', foreign), {
      status: 400,
      code: 'invalid_request',
      pointer: '/token',
    });
    expectProblem(await act('POST', '/tokens/deny', { jti: `${jti}=` }), {
      status: 400,
      code: 'invalid_request',
      pointer: '/jti',
    });
    for (const body of [{}, { token: 'x', jti }, { expires_at }])
      expectProblem(await act('POST', '/tokens/deny', body), { status: 400, code: 'invalid_request' });
  });
});

describe('suspension', () => {
  test('refuses tokens and login until it is lifted, and what was issued before its end stays dead', async () => {
    const { id, email, phone } = await twoDevices();
    const until = new Date(Date.now() + 3_600_000).toISOString();
    const suspended = await act('PUT', `/users/${id}/suspension`, { until, reason: 'spam' });
    expect(suspended.json()).toMatchObject({ status: 'suspended', suspended_until: until, suspension_reason: 'spam' });
    expect(await verify(phone.access_token)).toBe(401);
    expect((await api.login(email)).json()).toMatchObject({ code: 'account_suspended', until });
    expect((await act('DELETE', `/users/${id}/suspension`)).statusCode).toBe(204);
    expect((await act('GET', `/users/${id}`)).json()).toMatchObject({ status: 'active', suspension_reason: null });
    expect([await verify(phone.access_token), await refresh(phone)]).toEqual([401, 401]);
    expect(await verify((await logIn(api, email)).access_token)).toBe(200);
    expect(await acts(id)).toMatchObject([
      { type: 'user.unsuspended' },
      { type: 'user.suspended', details: { until, reason: 'spam' } },
    ]);
  });

  test('that is not there, or was lifted before, can be lifted and ends no session', async () => {
    const { id, email, phone } = await twoDevices();
    const lift = () => act('DELETE', `/users/${id}/suspension`);
    expect((await lift()).statusCode).toBe(204);
    expect((await act('GET', `/users/${id}`)).json()).toMatchObject({ tokens_valid_from: null });
    expect([await verify(phone.access_token), await refresh(phone)]).toEqual([200, 200]);
    await act('PUT', `/users/${id}/suspension`, {});
    await lift();
    const later = await logIn(api, email);
    expect((await lift()).statusCode).toBe(204);
    expect([await verify(later.access_token), await refresh(later)]).toEqual([200, 200]);
  });

  // From the year 2255 on, what Redis holds can't be told from "until lifted".
  test.each([
    ['2254-06-01T00:00:00.000Z', '2254-06-01T00:00:00.000Z'],
    ['2300-06-01T00:00:00.000Z', null],
    // In the year 10000, which neither RFC 3339 nor PostgreSQL's client can say.
    ['9999-12-31T23:59:59-12:00', null],
  ])('until %s is shown alike to operators and to the user: %s', async (until, shown) => {
    const { id, email } = await twoDevices();
    expect((await act('PUT', `/users/${id}/suspension`, { until })).json()).toMatchObject({ suspended_until: shown });
    expect((await act('GET', `/users/${id}`)).json()).toMatchObject({ suspended_until: shown });
    expect((await api.login(email)).json()).toMatchObject({
      code: 'account_suspended',
      ...(shown && { until: shown }),
    });
    expect((await api.login(email)).json().until ?? null).toBe(shown);
    const { events } = (await act('GET', `/audit-events?type=user.suspended&user_id=${id}`)).json();
    expect(events[0].details.until).toBe(shown);
  });

  test('until the year 10000, as the release before has stored it, is until lifted too', async () => {
    const { id, email } = await twoDevices();
    await act('PUT', `/users/${id}/suspension`);
    const client = new pg.Client({ connectionString: side.databaseUrl });
    await client.connect();
    await client.query(`UPDATE users SET suspended_until = '10000-01-01T12:00:00Z' WHERE id = $1`, [id]);
    await client.end();
    expect((await act('GET', `/users/${id}`)).json()).toMatchObject({ status: 'suspended', suspended_until: null });
    expect((await api.login(email)).json()).toMatchObject({ code: 'account_suspended' });
  });

  test('without an instant lasts until it is lifted; one in the past is refused', async () => {
    const { id, email } = await twoDevices();
    const suspended = await act('PUT', `/users/${id}/suspension`);
    expect(suspended.json()).toMatchObject({ status: 'suspended', suspended_until: null });
    expect((await api.login(email)).json()).not.toHaveProperty('until');
    const until = new Date(Date.now() - 1000).toISOString();
    expectProblem(await act('PUT', `/users/${id}/suspension`, { until }), {
      status: 400,
      code: 'invalid_request',
      pointer: '/until',
    });
  });
});

test('a deleted user is gone with every token and all that is personal; that it was deleted is kept', async () => {
  const { id, email, phone } = await twoDevices();
  expect((await act('DELETE', `/users/${id}`)).statusCode).toBe(204);
  expect([await verify(phone.access_token), await refresh(phone)]).toEqual([401, 401]);
  expectProblem(await api.login(email), { status: 401, code: 'invalid_credentials' });
  expectProblem(await act('GET', `/users/${id}`), { status: 404, code: 'user_unknown' });
  expectProblem(await act('DELETE', `/users/${id}`), { status: 404, code: 'user_unknown' });
  const { events } = (await act('GET', `/audit-events?user_id=${id}`)).json();
  // What the user had done just before may be recorded after it.
  expect(events).toContainEqual(
    expect.objectContaining({ type: 'user.deleted', actor: { type: 'client', id: admin.id } }),
  );
  for (const { ip, user_agent, actor } of events)
    if (actor.type === 'user') expect({ ip, user_agent }).toEqual({ ip: null, user_agent: null });
  expect((await api.dumpDatabase()).join('\n')).not.toContain(email);
});

test('a deletion that fails half way has deleted nothing, and is completed by another call; mails that were owed are withdrawn', async () => {
  const { id, email, phone } = await twoDevices();
  const probe = databaseProbe(side.databaseUrl);
  const redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
  try {
    await api.post('/v1/password-resets', { email });
    await vi.waitFor(async () => expect((await probe.owed())[0]?.published_at).toBeInstanceOf(Date));
    const limitMemory = (bytes: string) => tellAll(redis, (server) => server.config('SET', 'maxmemory', bytes));
    let refused: Awaited<ReturnType<typeof act>>;
    try {
      refused = await duringChange(
        probe,
        email,
        () => act('DELETE', `/users/${id}`),
        () => limitMemory('1'),
      );
    } finally {
      await limitMemory('0');
    }
    expectProblem(refused, { status: 503, code: 'dependency_unavailable' });
    expect((await act('GET', `/users/${id}`)).json()).toMatchObject({ status: 'active' });
    expect(await acts(id)).toMatchObject([{ type: 'user.tokens_revoked' }]);
    const late = await logIn(other, email);
    expect((await act('DELETE', `/users/${id}`)).statusCode).toBe(204);
    for (const device of [phone, late])
      expect([await verify(device.access_token), await refresh(device)]).toEqual([401, 401]);
    expect(await acts(id)).toMatchObject([
      { type: 'user.deleted' },
      { type: 'user.tokens_revoked' },
      { type: 'user.tokens_revoked' },
    ]);
    expect(await probe.owed()).toEqual([]);
    expect(await keysOf(redis, `${redisKeys().mailQueuePrefix}:mail:*-*-*-*-*`)).toEqual([]);
  } finally {
    redis.disconnect();
    await probe.close();
  }
});

describe('the record', () => {
  test('is paged and filtered, and names who acted from where', async () => {
    const { id } = await twoDevices();
    for (let n = 0; n < 3; n += 1) await act('POST', `/users/${id}/revocations`);
    const first = (await act('GET', `/audit-events?user_id=${id}&type=user.tokens_revoked&limit=2`)).json();
    expect(first.events).toHaveLength(2);
    expect(first.events[0]).toMatchObject({ ip: '127.0.0.1', user_agent: 'lightMyRequest', user_id: id });
    const rest = (
      await act('GET', `/audit-events?user_id=${id}&type=user.tokens_revoked&limit=2&cursor=${first.next_cursor}`)
    ).json();
    expect(rest).toMatchObject({ events: [{ type: 'user.tokens_revoked' }], next_cursor: null });
    expectProblem(await act('GET', '/audit-events?type=nonsense'), { status: 400, code: 'invalid_request' });
  });

  test('what can not be recorded is not done', async () => {
    const { id, phone } = await twoDevices();
    const client = new pg.Client({ connectionString: side.databaseUrl });
    await client.connect();
    const machine = await addClient(side.databaseUrl, 'introspect');
    try {
      // A full disk, as PostgreSQL would tell of it.
      await client.query(`CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$`);
      await client.query(
        'CREATE TRIGGER full_disk BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION disk_full()',
      );
      for (const [method, url] of [
        ['POST', `/users/${id}/revocations`],
        ['PUT', `/users/${id}/suspension`],
        ['DELETE', `/users/${id}/suspension`],
        ['DELETE', `/clients/${machine.id}`],
        ['DELETE', `/users/${id}/sessions/${phone.session.id}`],
        ['DELETE', `/users/${id}`],
      ] as const)
        expectProblem(await act(method, url), { status: 503, code: 'dependency_unavailable' });
      expectProblem(await act('POST', '/tokens/deny', { token: phone.access_token }), {
        status: 503,
        code: 'dependency_unavailable',
      });
      expect(await verify(phone.access_token)).toBe(200);
      expect((await postForm(api, '/oauth/introspect', { token: 'x' }, machine)).statusCode).toBe(200);
    } finally {
      await client.query('DROP TRIGGER full_disk ON audit_events');
      await client.end();
    }
  });
});

test('a revoked client gets no token, and those it has are refused on every instance', async () => {
  const machine = await addClient(side.databaseUrl, 'introspect');
  const held = await clientToken(api, machine);
  const listed = async () =>
    (await act('GET', '/clients')).json().clients.find(({ id }: { id: string }) => id === machine.id);
  expect(await listed()).toEqual({
    id: machine.id,
    scopes: ['introspect'],
    created_at: expect.any(String),
    revoked_at: null,
  });
  expect((await act('DELETE', `/clients/${machine.id}`)).statusCode).toBe(204);
  expect(await verify(held)).toBe(401);
  await expect.poll(() => verify(held, other)).toBe(401);
  const again = await postForm(other, '/oauth/token', { grant_type: 'client_credentials' }, machine);
  expect({ status: again.statusCode, error: again.json().error }).toEqual({ status: 401, error: 'invalid_client' });
  const { revoked_at } = await listed();
  expect((await act('DELETE', `/clients/${machine.id}`)).statusCode).toBe(204);
  expect((await listed()).revoked_at).toBe(revoked_at);
  expectProblem(await act('DELETE', '/clients/nobody'), { status: 404, code: 'client_unknown' });
  const { events } = (await act('GET', '/audit-events?type=client.revoked')).json();
  expect(events[0]).toMatchObject({ actor: { id: admin.id }, details: { client_id: machine.id } });
});
