import { hash } from 'node:crypto';
import { connectRedis, type RedisConnection } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import type { LightMyRequestResponse } from 'fastify';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { activeUser, logIn } from './accounts.ts';
import { newAddress, PASSWORD, startMailSide, startTestApp, type TestApp, testApp } from './test-app.ts';
import { forgetLimits } from './two-apps.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
let worker: Awaited<ReturnType<typeof side.startWorker>>;
let redis: RedisConnection;

beforeAll(async () => {
  side = await startMailSide();
  redis = connectRedis(side.redisUrl, 'queueWorker', () => undefined);
  [api, worker] = await Promise.all([startTestApp(side), side.startWorker()]);
});
afterAll(async () => {
  redis.disconnect();
  await api.close();
  await worker.stop();
  await side.stop();
});

beforeEach(() => forgetLimits(redis));

const NEW_PASSWORD = 'seven purple teapots sing';
/** Well formed, never mailed. */
const UNKNOWN_KEY = 'A1'.repeat(16);

async function linkTo(email: string, path: string): Promise<string> {
  return vi.waitFor(
    () => {
      const found = side.mail
        .mails(email)
        .flatMap(({ text }) => new RegExp(`${path}/([A-Za-z0-9]{32})`).exec(text)?.[1] ?? []);
      expect(found.length).toBeGreaterThan(0);
      return String(found.at(-1));
    },
    { timeout: 10_000 },
  );
}

/** An account, its page below `/reset-password` and the key. */
async function askedForPassword(locale?: string) {
  const email = await activeUser(api);
  if (locale !== undefined) {
    const { access_token: token } = await logIn(api, email);
    await api.call('PATCH', '/v1/me', { locale }, { authorization: `Bearer ${token}` });
  }
  await api.post('/v1/password-resets', { email });
  return { email, key: await linkTo(email, '/reset-password') };
}

/** The same for `/change-email`. */
async function askedForAddress() {
  const email = await activeUser(api);
  const { access_token: token } = await logIn(api, email);
  const newEmail = newAddress('new');
  const body = { current_password: PASSWORD, new_email: newEmail };
  await api.call('PUT', '/v1/me/email', body, { authorization: `Bearer ${token}` });
  return { email, newEmail, key: await linkTo(newEmail, '/change-email') };
}

async function expire(name: string): Promise<void> {
  const { renewal_ms } = JSON.parse((await redis.get(name)) ?? '');
  expect(await redis.pexpire(name, renewal_ms)).toBe(1);
}
const sha256 = (key: string) => hash('sha256', key, 'base64url');

const open = (url: string, headers: Record<string, string> = {}) => api.app.inject({ url, headers });
const submit = (url: string, form: Record<string, string>, headers: Record<string, string> = {}, { app } = api) =>
  app.inject({
    method: 'POST',
    url,
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    payload: new URLSearchParams(form).toString(),
  });

const heading = ({ body }: LightMyRequestResponse) => /<h1[^>]*>([^<]*)<\/h1>/.exec(body)?.[1];
const button = ({ body }: LightMyRequestResponse) => /<button[^>]*>([^<]*)<\/button>/.exec(body)?.[1];
const seen = (page: LightMyRequestResponse) => [page.statusCode, heading(page), button(page)];

describe('the page of a password reset', () => {
  test('has a form for the new password that password managers understand', async () => {
    const { email, key } = await askedForPassword();
    const page = await open(`/reset-password/${key}`);
    expect(seen(page)).toEqual([200, 'Choose a new password', 'Set password']);
    expect(page.body).toContain('good for another 15 minutes');
    expect(page.body).toMatch(
      /<input id="new-password" type="password" name="new_password" autocomplete="new-password" required/,
    );
    expect(page.body).toContain('<label for="new-password">New password</label>');
    expect(page.body).toContain(`<input type="email" autocomplete="username" value="${email}" readonly hidden>`);
  });

  test('sets it without JavaScript, grants no session, and ends every other', async () => {
    const { email, key } = await askedForPassword();
    const { access_token: token } = await logIn(api, email);
    const page = await submit(`/reset-password/${key}`, { new_password: NEW_PASSWORD, lang: 'en' });
    expect(seen(page)).toEqual([200, 'Your new password is set', undefined]);
    expect(page.cookies).toEqual([]);
    expect((await api.get('/v1/me', token)).statusCode).toBe(401);
    expect((await api.login(email, NEW_PASSWORD)).statusCode).toBe(200);
  });

  test.each([
    ['short', 'kx7q'],
    ['easy to guess', 'password1'],
    ['far too long', 'x1y2'.repeat(100)],
    ['empty', ''],
  ])('shows the form again for one that is %s, and the link stays good', async (_, weak) => {
    const { email, key } = await askedForPassword();
    const page = await submit(`/reset-password/${key}`, { new_password: weak, lang: 'en' });
    expect(seen(page)).toEqual([400, 'Choose another password', 'Set password']);
    expect(page.body).toContain('aria-invalid="true"');
    if (weak !== '') expect(page.body).not.toContain(weak);
    expect((await api.login(email)).statusCode).toBe(200);
    expect(seen(await submit(`/reset-password/${key}`, { new_password: NEW_PASSWORD }))[0]).toBe(200);
  });

  test('of ten submissions at once one sets it, and the others read that the link was used', async () => {
    const { key } = await askedForPassword();
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => submit(`/reset-password/${key}`, { new_password: NEW_PASSWORD })),
    );
    expect(answers.map((answer) => `${answer.statusCode} ${heading(answer)}`).toSorted()).toEqual([
      '200 Your new password is set',
      ...Array.from({ length: 9 }, () => '410 This link was used'),
    ]);
  });

  test('of an expired, used, replaced or unknown link says so, whether opened or submitted', async () => {
    const [expired, used, replaced] = [await askedForPassword(), await askedForPassword(), await askedForPassword()];
    await expire(redisKeys().passwordResetKey(sha256(expired.key)));
    await submit(`/reset-password/${used.key}`, { new_password: NEW_PASSWORD });
    await api.post('/v1/password-resets', { email: replaced.email });
    for (const [key, status, says] of [
      [expired.key, 410, 'This link has expired'],
      [used.key, 410, 'This link was used'],
      [replaced.key, 404, 'We do not know this link'],
      [UNKNOWN_KEY, 404, 'We do not know this link'],
      ['%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E', 404, 'We do not know this link'],
    ] as const) {
      const url = `/reset-password/${key}`;
      for (const page of [await open(url), await submit(url, { new_password: NEW_PASSWORD })]) {
        expect(seen(page)).toEqual([status, says, undefined]);
        expect(page.body).not.toContain('alert(1)');
      }
    }
  });

  test('speaks the language of the account', async () => {
    const { key } = await askedForPassword('de-AT');
    const page = await open(`/reset-password/${key}`, { 'accept-language': 'en' });
    expect(seen(page)).toEqual([200, 'Neues Passwort wählen', 'Passwort setzen']);
    expect(page.body).toContain('<html lang="de">');
    const weak = await submit(`/reset-password/${key}`, { new_password: 'kurz', lang: 'de' });
    expect(heading(weak)).toBe('Wählen Sie ein anderes Passwort');
    const done = await submit(`/reset-password/${key}`, { new_password: NEW_PASSWORD, lang: 'de' });
    expect(heading(done)).toBe('Ihr neues Passwort ist gesetzt');
  });
});

describe('the page of another address', () => {
  test('has a button that confirms it, exactly once', async () => {
    const { newEmail, key } = await askedForAddress();
    const page = await open(`/change-email/${key}`);
    expect(seen(page)).toEqual([200, 'Confirm your new address', 'Confirm address']);
    expect(page.body.replace('<wbr>', '')).toContain(`<p class="address">${newEmail}</p>`);
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => submit(`/change-email/${key}`, { action: 'confirm', lang: 'en' })),
    );
    expect(answers.map((answer) => `${answer.statusCode} ${heading(answer)}`).toSorted()).toEqual([
      '200 Your address is changed',
      ...Array.from({ length: 9 }, () => '410 Your address is already changed'),
    ]);
    expect((await api.login(newEmail)).statusCode).toBe(200);
  });

  test('of an expired or unknown link says so', async () => {
    const { email, key } = await askedForAddress();
    await expire(redisKeys().emailChangeKey(sha256(key)));
    for (const [link, status] of [
      [key, 410],
      [UNKNOWN_KEY, 404],
    ] as const)
      for (const page of [
        await open(`/change-email/${link}`),
        await submit(`/change-email/${link}`, { action: 'confirm' }),
      ])
        expect(seen(page)).toEqual([
          status,
          status === 410 ? 'This link has expired' : 'We do not know this link',
          undefined,
        ]);
    expect((await api.login(email)).statusCode).toBe(200);
  });
});

describe.each([
  ['/reset-password', askedForPassword, { new_password: NEW_PASSWORD }],
  ['/change-email', askedForAddress, { action: 'confirm' }],
] as const)('%s', (path, asked, form) => {
  test('GET, HEAD and OPTIONS change nothing, however often', async () => {
    const { key } = await asked();
    const url = `${path}/${key}`;
    const before = await api.dumpDatabase();
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'GET'] as const)
      for (const query of ['', `?${new URLSearchParams(form)}`]) {
        const { statusCode } = await api.app.inject({ method, url: `${url}${query}` });
        expect(statusCode).toBe(method === 'OPTIONS' ? 405 : 200);
      }
    const users = (dump: string[]) => dump.filter((row) => row.includes('$argon2id$')).toSorted();
    expect(users(await api.dumpDatabase())).toEqual(users(before));
    expect((await submit(url, form)).statusCode).toBe(200);
  });

  test('refuses by a page what no form of it sends, and nothing happens', async () => {
    const { key } = await asked();
    const url = `${path}/${key}`;
    const wrong = [
      [400, await submit(url, {})],
      [400, await submit(url, { ...form, next: 'https://example.com' })],
      [400, await submit(url, { ...form, lang: 'xx' })],
      [415, await submit(url, form, { 'content-type': 'application/json' })],
      [413, await submit(url, { ...form, lang: 'e'.repeat(17 * 1024) })],
    ] as const;
    for (const [status, page] of wrong)
      expect(seen(page)).toEqual([status, 'That did not work', 'Open the page again']);
    expect((await open(url)).statusCode).toBe(200);
  });

  test('shows no key anywhere, and every answer carries the headers that keep it in', async () => {
    const { key } = await asked();
    const url = `${path}/${key}`;
    const answers = [
      await open(url),
      await open(`${url}/more`),
      await submit(url, { nonsense: '1' }),
      await submit(url, form),
      await submit(url, form),
    ];
    expect(answers.map(({ statusCode }) => statusCode)).toEqual([200, 404, 400, 200, 410]);
    for (const answer of answers) {
      expect(answer.headers).toMatchObject({
        'content-security-policy':
          "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'",
        'referrer-policy': 'no-referrer',
        'x-content-type-options': 'nosniff',
        'x-frame-options': 'DENY',
        'cache-control': 'no-store',
        'x-robots-tag': 'noindex',
        'cross-origin-opener-policy': 'same-origin',
        'content-type': 'text/html; charset=utf-8',
      });
      expect(answer.cookies).toEqual([]);
      expect(answer.body).not.toContain(key);
      expect(answer.body).not.toContain(NEW_PASSWORD);
      expect(answer.body).not.toMatch(/<(?:a|base|iframe|style)\b|\bon\w+=|\bstyle=|https?:/);
    }
    const { body: metrics } = await api.get('/metrics');
    expect(metrics).toContain(`route="${path}/:key"`);
    const logged = [...api.logs, ...worker.output, metrics].join('\n');
    expect(logged).not.toContain(key);
    expect(logged).not.toContain(NEW_PASSWORD);
  });

  test('is limited, and says how long to wait', async () => {
    const limited = await testApp();
    const url = `${path}/${UNKNOWN_KEY}`;
    const german = { ...form, lang: 'de' };
    let page = await submit(url, german, {}, limited);
    let sent = 1;
    // An instance that could not ask Redis in time counts for itself: at most 300 on top.
    for (; page.statusCode === 404 && sent <= 600; sent += 1) page = await submit(url, german, {}, limited);
    expect(sent).toBeGreaterThan(300);
    expect([page.statusCode, heading(page)]).toEqual([429, 'Zu viele Versuche']);
    expect(page.body).not.toContain(NEW_PASSWORD);
  });

  test('is documented with every status, as HTML', async () => {
    const { paths } = (await api.get('/openapi.json')).json();
    const { get, post } = paths[`${path}/{key}`];
    expect(Object.keys(get.responses)).toEqual(['200', '400', '404', '410', '413', '415', '429', '500', '503']);
    expect(Object.keys(post.responses)).toEqual(Object.keys(get.responses));
    expect(Object.keys(post.requestBody.content)).toEqual(['application/x-www-form-urlencoded']);
  });
});
