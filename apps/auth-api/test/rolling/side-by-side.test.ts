/** This release beside the one before it, on one Redis and one database: whatever one has begun the other goes on with. */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { decoded } from '../accounts.ts';
import { addClient, basic, type TestClient } from '../clients.ts';
import { newAddress, PASSWORD, startAppProcess, startMailSide, testEnvironment } from '../test-app.ts';
import { previousRelease } from './previous-release.ts';

const ANOTHER = `another ${PASSWORD}`;
const RELEASES = ['the release before', 'this release'] as const;

let side: Awaited<ReturnType<typeof startMailSide>>;
let apis: Record<(typeof RELEASES)[number], Awaited<ReturnType<typeof startAppProcess>>>;
let programs: ReturnType<typeof previousRelease>;
let client: TestClient;
beforeAll(async () => {
  side = await startMailSide();
  programs = previousRelease();
  client = await addClient(side.databaseUrl, 'admin', 'introspect');
  const environment = testEnvironment(side, { RATE_LIMITS: 'off' });
  const [before, now] = await Promise.all([
    startAppProcess('auth-api', environment, { program: programs.api }),
    startAppProcess('auth-api', environment),
  ]);
  apis = { 'the release before': before, 'this release': now };
});
afterAll(async () => {
  await Promise.all(Object.values(apis ?? {}).map((api) => api.stop()));
  await side?.stop();
});

interface Sent {
  token?: string;
  payload?: object;
  form?: Record<string, string>;
}

function askerOf(base: string) {
  return async function ask<Body>(method: string, path: string, { token, payload, form }: Sent = {}): Promise<Body> {
    const content = form ? new URLSearchParams(form).toString() : payload && JSON.stringify(payload);
    const asking = request(base + path, {
      method,
      agent: false,
      headers: {
        ...(content && { 'content-type': form ? 'application/x-www-form-urlencoded' : 'application/json' }),
        ...(form ? { authorization: basic(client) } : token !== undefined && { authorization: `Bearer ${token}` }),
      },
    });
    asking.end(content);
    const [response]: IncomingMessage[] = await once(asking, 'response');
    if (!response) throw new Error('no response');
    const body = await text(response);
    const status = response.statusCode ?? 0;
    if (status >= 300) throw Object.assign(new Error(`${method} ${path}: ${status} ${body}`), { status });
    return (body && JSON.parse(body)) as Body;
  };
}
type Ask = ReturnType<typeof askerOf>;

interface Tokens {
  access_token: string;
  refresh_token: string;
  session: { id: string };
}
const logIn = (ask: Ask, email: string, password = PASSWORD, more: object = {}) =>
  ask<Tokens>('POST', '/v1/tokens', { payload: { email, password, ...more } });
const refresh = (ask: Ask, { refresh_token }: Tokens) =>
  ask<Tokens>('POST', '/v1/tokens/refresh', { payload: { refresh_token } });
const verify = (ask: Ask, { access_token }: Tokens) => ask('GET', '/v1/verify', { token: access_token });
const statusOf = (asked: Promise<unknown>) =>
  asked.then(
    () => 200,
    ({ status }) => status as number,
  );
/** Its copy of the log hears of it. */
const refuses = (ask: Ask, tokens: Tokens) =>
  vi.waitFor(async () => expect(await statusOf(verify(ask, tokens))).toBe(401), { timeout: 5000, interval: 10 });

describe.each([
  ['the release before', 'this release'],
  ['this release', 'the release before'],
] as const)('what %s begins, with the worker of %s', (first, second) => {
  let one: Ask;
  let other: Ask;
  let worker: Awaited<ReturnType<typeof side.startWorker>>;
  let email: string;
  beforeAll(async () => {
    [one, other] = [askerOf(apis[first].url), askerOf(apis[second].url)];
    worker = await side.startWorker(second === 'this release' ? undefined : programs.worker);
    email = newAddress();
    await one('POST', '/v1/users', { payload: { email, password: PASSWORD } });
    await other('POST', `/v1/activations/${await side.activationKey(email)}`);
  });
  afterAll(async () => void (await worker?.stop()));

  /** The key mailed in the newest link to this page. */
  async function mailedKey(to: string, page: string, count = 1): Promise<string> {
    const { text } = await side.mail.waitFor(to, { count });
    return text.match(new RegExp(`/${page}/([A-Za-z0-9]{32})`))?.[1] ?? '';
  }

  test('sessions and their tokens: opened, used, refreshed and repeated by turns, and ended', async () => {
    const phone = await logIn(one, email, PASSWORD, { device_name: 'phone' });
    await verify(other, phone);
    const next = await refresh(other, phone);
    expect((await refresh(one, phone)).refresh_token).toBe(next.refresh_token);
    const after = await refresh(one, next);
    expect((await refresh(other, next)).refresh_token).toBe(after.refresh_token);
    await verify(other, after);
    const tool = await logIn(one, email, PASSWORD, { token_format: 'opaque' });
    await verify(other, tool);
    const token = after.access_token;
    const { sessions } = await other<{ sessions: { device_name: string | null }[] }>('GET', '/v1/sessions', { token });
    expect(sessions.map(({ device_name }) => device_name).toSorted()).toEqual([null, 'phone']);

    await other('DELETE', `/v1/sessions/${tool.session.id}`, { token });
    await refuses(one, tool);
    const [laptop, tablet] = [await logIn(other, email), await logIn(one, email)];
    await one('DELETE', '/v1/sessions/current', { token: laptop.access_token });
    await refuses(other, laptop);
    expect(await statusOf(refresh(other, laptop))).toBe(401);
    await other('DELETE', '/v1/sessions?except=current', { token });
    await refuses(one, tablet);
    await one('DELETE', '/v1/sessions', { token });
    await refuses(other, phone);
    expect(await statusOf(refresh(other, after))).toBe(401);
    await verify(one, await logIn(other, email));
  });

  test('mails and their keys: a new password, another address', async () => {
    const session = await logIn(other, email);
    await one('POST', '/v1/password-resets', { payload: { email } });
    const reset = await mailedKey(email, 'reset-password', 2);
    await other('POST', `/v1/password-resets/${reset}`, { payload: { new_password: ANOTHER } });
    await refuses(one, session);
    const { access_token: token } = await logIn(one, email, ANOTHER);
    const moved = newAddress();
    await one('PUT', '/v1/me/email', { token, payload: { current_password: ANOTHER, new_email: moved } });
    await other('POST', `/v1/email-changes/${await mailedKey(moved, 'change-email')}`);
    const there = await logIn(one, moved, ANOTHER);
    const payload = { current_password: ANOTHER, new_password: PASSWORD };
    await one('PUT', '/v1/me/password', { token: there.access_token, payload });
    email = moved;
    await verify(other, await logIn(other, email));
  });

  test('what operators do: a suspension and its end, an introspection, a cut-off, a deletion', async () => {
    const form = { grant_type: 'client_credentials' };
    const { access_token: token } = await one<{ access_token: string }>('POST', '/oauth/token', { form });
    const session = await logIn(one, email);
    const id = decoded(session.access_token).claims.sub;
    const introspected = () => other('POST', '/oauth/introspect', { form: { token: session.access_token } });
    expect(await introspected()).toMatchObject({ active: true, sub: id });

    await one('PUT', `/v1/admin/users/${id}/suspension`, { token, payload: { reason: 'spam' } });
    await refuses(other, session);
    expect(await introspected()).toMatchObject({ active: false });
    expect(await statusOf(logIn(other, email))).toBe(403);
    await other('DELETE', `/v1/admin/users/${id}/suspension`, { token });
    const again = await logIn(one, email);
    await verify(other, again);
    await other('POST', `/v1/admin/users/${id}/revocations`, { token });
    await refuses(one, again);
    await one('DELETE', `/v1/admin/users/${id}`, { token });
    expect(await statusOf(logIn(other, email))).toBe(401);
  });
});
