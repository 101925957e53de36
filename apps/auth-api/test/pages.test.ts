import { createHash } from 'node:crypto';
import { startRedis } from '@latchkey/dev-stack/redis';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import type { LightMyRequestResponse } from 'fastify';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { chooseLanguage, inWords } from '../src/pages/language.ts';
import { newAddress, startMailSide, startTestApp, type TestApp, testApp } from './test-app.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
let worker: Awaited<ReturnType<typeof side.startWorker>>;
let redis: ReturnType<typeof connectRedis>;

beforeAll(async () => {
  side = await startMailSide();
  redis = connectRedis(side.redisUrl, 'store', () => undefined);
  [api, worker] = await Promise.all([startTestApp(side), side.startWorker()]);
});
afterAll(async () => {
  redis.disconnect();
  await api.close();
  await worker.stop();
  await side.stop();
});

/** Well formed, never mailed. */
const UNKNOWN_KEY = 'A1'.repeat(16);

/** A registration and the key its mail brought. */
async function mailedKey({ email = newAddress(), locale = 'en' } = {}) {
  const registered = await api.post('/v1/users', { email, password: 'correct horse battery staple', locale });
  expect(registered.statusCode).toBe(202);
  return { email, key: await side.activationKey(email) };
}

const recordOf = (key: string) => redisKeys().activationKey(createHash('sha256').update(key).digest('base64url'));

/** Its time to activate is over: what is left of its life is the time to renew. */
async function expire(key: string): Promise<void> {
  const { renewal_ms } = JSON.parse((await redis.get(recordOf(key))) ?? '') as { renewal_ms: number };
  expect(await redis.pexpire(recordOf(key), renewal_ms)).toBe(1);
}

const open = (key: string, headers: Record<string, string> = {}, { app } = api) =>
  app.inject({ url: `/activate/${key}`, headers });

const submit = (key: string, form: string, headers: Record<string, string> = {}, { app } = api) =>
  app.inject({
    method: 'POST',
    url: `/activate/${key}`,
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    payload: form,
  });

const heading = ({ body }: LightMyRequestResponse) => /<h1[^>]*>([^<]*)<\/h1>/.exec(body)?.[1];
const button = ({ body }: LightMyRequestResponse) => /<button[^>]*>([^<]*)<\/button>/.exec(body)?.[1];
const posts = ({ body }: LightMyRequestResponse) =>
  /<form method="post".*?name="action" value="(\w+)"/s.exec(body)?.[1];
const statusOf = async (key: string) => {
  const answer = await api.get(`/v1/activations/${key}`);
  return answer.json().status === 'pending' ? 'pending' : answer.json().code;
};

describe('what a link shows', () => {
  test('a link that waits: the address, how long it is good for, and a button that activates', async () => {
    const { email, key } = await mailedKey();
    const page = await open(key);
    expect(page.statusCode).toBe(200);
    expect(heading(page)).toBe('Activate your account');
    expect(page.body.replace('<wbr>', '')).toContain(`<p class="address">${email}</p>`);
    expect(page.body).toContain('good for another 15 minutes');
    expect([button(page), posts(page)]).toEqual(['Activate account', 'activate']);
  });

  test('an expired link: a button that renews', async () => {
    const { key } = await mailedKey();
    await expire(key);
    const page = await open(key);
    expect([page.statusCode, heading(page), button(page), posts(page)]).toEqual([
      410,
      'This link has expired',
      'Send a new link',
      'renew',
    ]);
  });

  test('a used link: kindly, that the account is active, and nothing to press', async () => {
    const { key } = await mailedKey();
    await submit(key, 'action=activate');
    const page = await open(key);
    expect([page.statusCode, heading(page), button(page)]).toEqual([410, 'Your account is already active', undefined]);
  });

  test('a link that a newer one replaced: look for the latest mail', async () => {
    const { email, key } = await mailedKey();
    await api.post('/v1/activations', { email });
    const page = await open(key);
    expect([page.statusCode, heading(page), button(page)]).toEqual([404, 'There is a newer link', undefined]);
  });

  test.each([
    ['never mailed', UNKNOWN_KEY],
    ['cut short', 'A1A1'],
    ['with a character of the text around it', `${UNKNOWN_KEY}.`],
    ['with a path behind it', `${UNKNOWN_KEY}/more`],
    ['far too long', 'A'.repeat(200)],
    ['empty', ''],
    ['with a quote and a tag in it', '%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E'],
    ['with a null byte', 'A%00B'],
  ])('a link that is %s: not known, and what to do', async (_, key) => {
    const page = await open(key);
    expect([page.statusCode, heading(page), button(page)]).toEqual([404, 'We do not know this link', undefined]);
    expect(page.body).toContain('copy the whole link');
    expect(page.body).not.toContain('alert(1)');
  });

  test('what people and callers put in is escaped', async () => {
    const address = newAddress("o'neil&sons");
    const { key } = await mailedKey({ email: address });
    const page = await open(key, {
      host: '"><script>alert(1)</script>',
      'accept-language': '"><script>alert(1)</script>',
    });
    expect(page.body).toContain('o&#39;neil&amp;sons');
    expect(page.body).not.toContain("o'neil");
    expect(page.body).not.toContain('alert(1)');
  });

  test('GET, HEAD and OPTIONS change nothing, however often', async () => {
    const { email, key } = await mailedKey();
    const before = await redis.get(recordOf(key));
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'GET'] as const) {
      for (const query of ['', '?action=activate', '?action=renew']) {
        const answer = await api.app.inject({ method, url: `/activate/${key}${query}` });
        const expected = method === 'OPTIONS' ? [405, 'GET, HEAD, POST'] : [200, undefined];
        expect([answer.statusCode, answer.headers.allow]).toEqual(expected);
        if (method === 'HEAD') expect(answer.body).toBe('');
      }
    }
    expect(await redis.get(recordOf(key))).toBe(before);
    expect((await api.login(email)).json().code).toBe('account_not_activated');
    expect(await statusOf(key)).toBe('pending');
    expect(side.mail.mails(email)).toHaveLength(1);
    expect(heading(await submit(key, 'action=activate'))).toBe('Your account is active');
  });
});

describe('what the button does without JavaScript', () => {
  test('it activates, and grants no session', async () => {
    const { email, key } = await mailedKey();
    expect((await api.login(email)).statusCode).toBe(403);
    const page = await submit(key, 'action=activate&lang=en');
    expect([page.statusCode, heading(page), button(page)]).toEqual([200, 'Your account is active', undefined]);
    expect(page.cookies).toEqual([]);
    expect(page.body).not.toMatch(/token|eyJ|lk[a-z]_/);
    expect((await api.login(email)).statusCode).toBe(200);
  });

  test('of twenty clicks at once one activates, and the others read that the account is active', async () => {
    const { key } = await mailedKey();
    const answers = await Promise.all(Array.from({ length: 20 }, () => submit(key, 'action=activate')));
    const seen = answers.map((answer) => `${answer.statusCode} ${heading(answer)}`).toSorted();
    expect(seen).toEqual([
      '200 Your account is active',
      ...Array.from({ length: 19 }, () => '410 Your account is already active'),
    ]);
  });

  test('an expired link renews in one click, and the new one works', async () => {
    const { email, key } = await mailedKey();
    await expire(key);
    const late = await submit(key, 'action=activate');
    expect([late.statusCode, heading(late), posts(late)]).toEqual([410, 'This link has expired', 'renew']);
    const page = await submit(key, 'action=renew');
    expect([page.statusCode, heading(page)]).toEqual([200, 'A new link is on its way']);
    const fresh = await side.activationKey(email, 2);
    expect(fresh).not.toBe(key);
    expect(heading(await submit(fresh, 'action=activate'))).toBe('Your account is active');
  });

  test('of five clicks on renew at once one renews, and the others read that a newer link was mailed', async () => {
    const { email, key } = await mailedKey();
    await expire(key);
    const answers = await Promise.all(Array.from({ length: 5 }, () => submit(key, 'action=renew')));
    const seen = answers.map((answer) => `${answer.statusCode} ${heading(answer)}`).toSorted();
    expect(seen).toEqual([
      '200 A new link is on its way',
      ...Array.from({ length: 4 }, () => '404 There is a newer link'),
    ]);
    // A second renewal would have made the first one's key a replaced one.
    expect(await statusOf(await side.activationKey(email, 2))).toBe('pending');
  });

  test.each([
    ['no action', 400, '', {}],
    ['an unknown action', 400, 'action=delete', {}],
    ['two actions', 400, 'action=activate&action=renew', {}],
    ['an unknown field', 400, 'action=activate&next=https%3A%2F%2Fexample.com', {}],
    ['an unknown language', 400, 'action=activate&lang=xx', {}],
    ['no type', 415, 'action=activate', { 'content-type': '' }],
    ['JSON', 415, '{"action":"activate"}', { 'content-type': 'application/json' }],
    ['17 KiB', 413, `action=activate&lang=${'e'.repeat(17 * 1024)}`, {}],
  ])('a form with %s is refused by a page, and nothing happens', async (_, status, form, headers) => {
    const { key } = await mailedKey();
    const page = await submit(key, form, headers);
    expect([page.statusCode, heading(page), button(page), posts(page)]).toEqual([
      status,
      'That did not work',
      'Open the page again',
      undefined,
    ]);
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(await statusOf(key)).toBe('pending');
  });
});

describe('when something is in the way', () => {
  test('too many requests: a page that says how long to wait', async () => {
    const limited = await testApp();
    await Promise.all(Array.from({ length: 300 }, () => open(UNKNOWN_KEY, {}, limited)));
    const page = await open(UNKNOWN_KEY, {}, limited);
    expect([page.statusCode, heading(page)]).toEqual([429, 'Too many tries']);
    const wait = Number(page.headers['retry-after']);
    expect(wait).toBeGreaterThan(540);
    expect(page.body).toContain(`Please wait ${inWords(wait, 'en')}`);
    const posted = await submit(UNKNOWN_KEY, 'action=renew&lang=de', {}, limited);
    expect([posted.statusCode, heading(posted), posts(posted)]).toEqual([429, 'Zu viele Versuche', 'renew']);
  });

  test('Redis away: a page that offers to try again, and it works once Redis is back', async () => {
    const own = await startRedis();
    onTestFinished(() => own.stop());
    const stranded = await testApp({ redisUrl: own.url });
    await own.kill();
    const page = await open(UNKNOWN_KEY, {}, stranded);
    expect([page.statusCode, heading(page), button(page), posts(page)]).toEqual([
      503,
      'One moment, please',
      'Try again',
      undefined,
    ]);
    expect(Number(page.headers['retry-after'])).toBeGreaterThan(0);
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
    const posted = await submit(UNKNOWN_KEY, 'action=activate&lang=en', {}, stranded);
    expect([posted.statusCode, heading(posted), posts(posted)]).toEqual([503, 'One moment, please', 'activate']);
    // Whoever runs the service learns of it as of any other route.
    const logged = stranded.logs.filter((line) => line.includes('a dependency is down'));
    expect(logged.length).toBeGreaterThan(0);
    expect(logged.join()).toContain('/activate/:key');
    expect([...stranded.logs, page.body, posted.body].join()).not.toContain(UNKNOWN_KEY);
    await own.start();
    await vi.waitFor(
      async () => expect(heading(await open(UNKNOWN_KEY, {}, stranded))).toBe('We do not know this link'),
      { timeout: 10_000 },
    );
  });
});

test('no page, log line or metric holds a key, and every answer carries the headers that keep it in', async () => {
  const { key } = await mailedKey();
  const answers = [
    await open(key),
    await submit(key, 'action=nonsense'),
    await submit(key, '{}', { 'content-type': 'application/json' }),
    await open(`${key}/`),
    await open(`${key}x`),
    await api.app.inject({ method: 'PUT', url: `/activate/${key}` }),
    await api.app.inject({ method: 'HEAD', url: `/activate/${key}` }),
    await submit(key, 'action=activate'),
    await submit(key, 'action=activate'),
    await submit(key, 'action=renew'),
    await open(key),
  ];
  expect(answers.map(({ statusCode }) => statusCode)).toEqual([200, 400, 415, 404, 404, 405, 200, 200, 410, 410, 410]);
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
    expect(answer.headers).not.toHaveProperty('location');
    // Not in a form's target, not in the address of an asset: nowhere.
    expect(answer.body).not.toContain(key);
    expect(answer.body).not.toMatch(/<(?:a|base|iframe|style)\b|\bon\w+=|\bstyle=|https?:/);
  }
  const { body: metrics } = await api.get('/metrics');
  expect(metrics).toContain('route="/activate/:key"');
  expect([...api.logs, ...worker.output, metrics].join('\n')).not.toContain(key);
  expect(api.logs.join('\n')).toContain('/activate/:key');
});

describe('languages', () => {
  test('of an expired link is still the registration’s', async () => {
    const { key } = await mailedKey({ locale: 'de' });
    await expire(key);
    const page = await open(key);
    expect([page.statusCode, page.headers['content-language']]).toEqual([410, 'de']);
  });

  test('the page speaks the language of the registration, and so does its answer', async () => {
    const { key } = await mailedKey({ locale: 'de-AT' });
    const page = await open(key, { 'accept-language': 'en' });
    expect(heading(page)).toBe('Konto aktivieren');
    expect(page.body).toContain('<html lang="de">');
    expect(page.body).toContain('noch 15 Minuten');
    expect(page.headers['content-language']).toBe('de');
    expect(page.body).toContain('<input type="hidden" name="lang" value="de">');
    expect(heading(await submit(key, 'action=activate&lang=de', { 'accept-language': 'en' }))).toBe(
      'Ihr Konto ist aktiv',
    );
  });

  test.each([
    [undefined, undefined, 'en'],
    [undefined, 'de', 'de'],
    [undefined, 'de-CH, en;q=0.9', 'de'],
    [undefined, 'fr, de;q=0.3, en;q=0.8', 'en'],
    [undefined, 'en;q=0, de;q=0.1', 'de'],
    [undefined, 'nonsense;;q=,,', 'en'],
    ['fr', 'de', 'de'],
    ['DE-at', 'en', 'de'],
    ['constructor', 'toString', 'en'],
  ])('registered as %s, accepting %s: %s', (known, accepted, language) => {
    expect(chooseLanguage(known, accepted)).toBe(language);
  });

  test.each([
    [0.2, '1 second', '1 Sekunde'],
    [60, '60 seconds', '60 Sekunden'],
    [840.5, '15 minutes', '15 Minuten'],
    [7200, '2 hours', '2 Stunden'],
    [604_800, '7 days', '7 Tage'],
  ])('%d seconds in words', (seconds, english, german) => {
    expect([inWords(seconds, 'en'), inWords(seconds, 'de')]).toEqual([english, german]);
  });
});

test('assets are kept for ever under the fingerprint of their content, and under no other', async () => {
  const { body } = await open(UNKNOWN_KEY);
  const urls = [...body.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, url = '']) => url);
  expect(urls.map((url) => url.replace(/\?.*/, ''))).toEqual([
    '/assets/icon.svg',
    '/assets/page.css',
    '/assets/page.js',
  ]);
  const types = ['image/svg+xml', 'text/css; charset=utf-8', 'application/javascript; charset=utf-8'];
  for (const [index, url] of urls.entries()) {
    const asset = await api.get(url);
    expect([asset.statusCode, asset.headers['content-type']]).toEqual([200, types[index]]);
    expect(asset.headers).toMatchObject({
      'cache-control': 'public, max-age=31536000, immutable',
      'x-content-type-options': 'nosniff',
    });
    expect((await api.get(`${url}x`)).headers['cache-control']).toBe('no-cache');
  }
  expect((await api.get('/assets/../app.ts')).statusCode).toBe(404);
  expect((await api.get('/assets/%2e%2e/render.ts')).statusCode).toBe(404);
});

test('below a path of PUBLIC_URL the assets are looked for below it too', async () => {
  const { app } = await testApp({ env: { PUBLIC_URL: 'https://example.test/accounts' } });
  const { body } = await app.inject(`/activate/${UNKNOWN_KEY}`);
  expect(body).toContain('href="/accounts/assets/page.css?v=');
});

test('the OpenAPI document lists every status of the page, as HTML', async () => {
  const { paths } = (await api.get('/openapi.json')).json();
  const { get, post } = paths['/activate/{key}'];
  expect(Object.keys(get.responses)).toEqual(['200', '400', '404', '410', '413', '415', '429', '500', '503']);
  expect(Object.keys(post.responses)).toEqual(Object.keys(get.responses));
  for (const answer of [...Object.values<object>(get.responses), ...Object.values<object>(post.responses)]) {
    expect(answer).toMatchObject({ content: { 'text/html': { schema: { type: 'string' } } } });
  }
  expect(Object.keys(post.requestBody.content)).toEqual(['application/x-www-form-urlencoded']);
  expect([get.tags, post.tags]).toEqual([['Pages'], ['Pages']]);
});
