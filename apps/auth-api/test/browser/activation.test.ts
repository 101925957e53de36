import { createHash } from 'node:crypto';
import { freePort } from '@latchkey/dev-stack/ports';
import { programOnPath } from '@latchkey/dev-stack/system-programs';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { newAddress, startMailSide, startTestApp, type TestApp } from '../test-app.ts';

const executablePath = programOnPath('chromium');

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
let worker: Awaited<ReturnType<typeof side.startWorker>>;
let redis: ReturnType<typeof connectRedis>;
let browser: Browser;
let origin: string;

beforeAll(async () => {
  if (executablePath === undefined) return;
  const port = await freePort();
  origin = `http://127.0.0.1:${port}`;
  side = await startMailSide({ PUBLIC_URL: origin });
  redis = connectRedis(side.redisUrl, 'store', () => undefined);
  [api, worker, browser] = await Promise.all([
    startTestApp({ databaseUrl: side.databaseUrl, redisUrl: side.redisUrl, env: { PUBLIC_URL: origin } }),
    side.startWorker(),
    chromium.launch({
      executablePath,
      // Nothing of the browser's own talks to anybody, and no GPU is asked for.
      args: [
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    }),
  ]);
  await api.app.listen({ host: '127.0.0.1', port });
});
afterAll(async () => {
  if (executablePath === undefined) return;
  await browser.close();
  redis.disconnect();
  await api.close();
  await worker.stop();
  await side.stop();
});

/** Registers; the link is the one in the mail, as the worker wrote it. */
async function mailedLink({ email = newAddress(), locale = 'en' } = {}) {
  const { statusCode } = await api.post('/v1/users', { email, password: 'correct horse battery staple', locale });
  expect(statusCode).toBe(202);
  return { email, ...linkIn((await side.mail.waitFor(email)).html) };
}

function linkIn(html: string): { link: string; key: string } {
  const [link = '', key = ''] = /http[^"<\s]+\/activate\/([A-Za-z0-9]{32})/.exec(html) ?? [];
  expect(link.startsWith(origin)).toBe(true);
  return { link, key };
}

/** A page in a browser of its own, which must keep to our origin and have nothing to complain about until the test is over. */
async function visitor(options: BrowserContextOptions = {}) {
  const context = await browser.newContext(options);
  const complaints: string[] = [];
  const requests: string[] = [];
  await context.addInitScript(
    "document.addEventListener('securitypolicyviolation', (event) => console.error('CSP', event.violatedDirective, event.blockedURI))",
  );
  context.on('request', (request) => requests.push(`${request.method()} ${request.url()}`));
  context.on('console', (message) => {
    // Chromium's own note that an answer was an error: what a used link is meant to get, and the proxy of one test to give.
    if (!/^Failed to load resource: the server responded with a status of (?:410|502)/.test(message.text()))
      complaints.push(message.text());
  });
  context.on('weberror', (error) => complaints.push(error.error().message));
  const page = await context.newPage();
  onTestFinished(async () => {
    await context.close();
    expect(complaints).toEqual([]);
    expect(requests.filter((request) => !request.includes(` ${origin}/`))).toEqual([]);
  });
  return { page, requests, posts: () => requests.filter((request) => request.startsWith('POST ')) };
}

const heading = (page: Page) => page.getByRole('heading', { level: 1 });
const activate = (page: Page) => page.getByRole('button', { name: 'Activate account' });
const shows = (page: Page, text: string) => heading(page).filter({ hasText: text }).waitFor();
const canLogIn = async (email: string) => (await api.login(email)).statusCode === 200;
const recordOf = (key: string) => redisKeys().activationKey(createHash('sha256').update(key).digest('base64url'));

/** The first colour behind an element that is not transparent, and the text's contrast with it (WCAG 2.2, "contrast ratio"). */
const CONTRASTS = `[...document.querySelectorAll('h1, p:not(.spoken), button, footer')].map((element) => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [red, green, blue] = channels(colour).map((channel) => (channel /= 255) <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  let ground = element;
  while (channels(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
  const [dark, light] = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor].map(luminance).sort((a, b) => a - b);
  return [element.className || element.localName, (light + 0.05) / (dark + 0.05)];
})`;

describe.skipIf(executablePath === undefined)('the mailed link in Chromium', () => {
  test('a person opens the link, clicks, and the account is active', async () => {
    const { email, link } = await mailedLink();
    const { page, posts } = await visitor();
    await page.goto(link);
    expect(await page.locator('.address').textContent()).toBe(email);
    expect(await canLogIn(email)).toBe(false);
    const top = (await page.locator('main').boundingBox())?.y;
    await activate(page).dblclick();
    await shows(page, 'Your account is active');
    expect(posts()).toEqual([`POST ${link}`]);
    expect(await canLogIn(email)).toBe(true);
    // In place: the same document, the card where it was, the reader at the heading, and the words below it announced.
    expect((await page.locator('main').boundingBox())?.y).toBe(top);
    expect(await page.evaluate('document.activeElement.localName')).toBe('h1');
    expect(await page.getByRole('status').textContent()).toContain('You can now log in');
    expect(await page.title()).toContain('Your account is active');
    expect(await page.context().cookies()).toEqual([]);
    await page.reload();
    await shows(page, 'Your account is already active');
  });

  test('a link scanner loads the page, runs its scripts, hovers and follows every link: nothing is activated, and the key is unspent', async () => {
    const { email, link, key } = await mailedLink();
    const before = await redis.get(recordOf(key));
    const { page, requests, posts } = await visitor();
    await page.goto(link, { waitUntil: 'networkidle' });
    await page.reload({ waitUntil: 'networkidle' });
    for (const element of await page.locator('main :not(wbr, [type=hidden])').all())
      await element.hover({ force: true });
    const targets = (await page.evaluate(
      "[...document.querySelectorAll('[href], [src], [action]')].map((element) => element.href ?? element.src ?? element.action).concat(location.href)",
    )) as string[];
    expect(targets).toHaveLength(4);
    for (const target of targets) {
      for (const method of ['GET', 'HEAD']) expect((await page.request.fetch(target, { method })).status()).toBe(200);
    }
    await page.evaluate(
      "window.dispatchEvent(new Event('load')); document.dispatchEvent(new Event('visibilitychange'))",
    );
    expect(requests.length).toBeGreaterThan(4);
    expect(posts()).toEqual([]);
    expect(await redis.get(recordOf(key))).toBe(before);
    expect((await api.get(`/v1/activations/${key}`)).json().status).toBe('pending');
    expect(await canLogIn(email)).toBe(false);
    // Unspent: the person who comes after the scanner gets in.
    const person = await visitor();
    await person.page.goto(link);
    await activate(person.page).click();
    await shows(person.page, 'Your account is active');
  });

  test('without JavaScript the button activates', async () => {
    const { email, link } = await mailedLink();
    const { page } = await visitor({ javaScriptEnabled: false });
    await page.goto(link);
    await activate(page).click();
    await shows(page, 'Your account is active');
    expect(await canLogIn(email)).toBe(true);
  });

  test('when the script cannot post, the browser posts the form', async () => {
    const { email, link } = await mailedLink();
    const { page } = await visitor();
    await page.route('**/activate/*', (route) =>
      route.request().resourceType() === 'fetch'
        ? route.fulfill({ status: 502, contentType: 'text/html', body: '<h1>Bad gateway</h1>' })
        : route.continue(),
    );
    await page.goto(link);
    await activate(page).click();
    await shows(page, 'Your account is active');
    expect(await page.getByRole('status').textContent()).toBe('');
    expect(await canLogIn(email)).toBe(true);
  });

  test('while its request is on its way, the button says so and cannot be pressed', async () => {
    const { link } = await mailedLink();
    const { page, posts } = await visitor();
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    await page.route('**/activate/*', async (route) => {
      if (route.request().method() === 'POST') await released;
      await route.continue();
    });
    await page.goto(link);
    await activate(page).click();
    const waiting = page.getByRole('button', { name: 'Activating…' });
    await waiting.waitFor();
    expect(await waiting.isDisabled()).toBe(true);
    expect(await page.getByRole('status').textContent()).toBe('Activating…');
    release();
    await shows(page, 'Your account is active');
    expect(posts()).toHaveLength(1);
  });

  test('by keyboard alone: Tab, Enter, active, and the focus is always seen', async () => {
    const { email, link } = await mailedLink();
    const { page } = await visitor();
    await page.goto(link);
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Activate account');
    const ring =
      "getComputedStyle(document.activeElement).outlineStyle + ' ' + getComputedStyle(document.activeElement).outlineWidth";
    expect(await page.evaluate(ring)).toBe('solid 3px');
    await page.keyboard.press('Enter');
    await shows(page, 'Your account is active');
    expect(await canLogIn(email)).toBe(true);
  });

  test.each([true, false])(
    'an expired link renews in one click, and the link of the new mail works (JavaScript: %s)',
    async (javaScriptEnabled) => {
      const { email, link, key } = await mailedLink();
      const { renewal_ms } = JSON.parse((await redis.get(recordOf(key))) ?? '') as { renewal_ms: number };
      await redis.pexpire(recordOf(key), renewal_ms);
      const { page, posts } = await visitor({ javaScriptEnabled });
      await page.goto(link);
      await shows(page, 'This link has expired');
      await page.getByRole('button', { name: 'Send a new link' }).click();
      await shows(page, 'A new link is on its way');
      expect(posts()).toHaveLength(1);
      const fresh = linkIn((await side.mail.waitFor(email, { count: 2 })).html);
      expect(fresh.key).not.toBe(key);
      await page.goto(fresh.link);
      await activate(page).click();
      await shows(page, 'Your account is active');
      expect(await canLogIn(email)).toBe(true);
    },
  );

  test('two tabs: the second reads that the account is active already', async () => {
    const { link } = await mailedLink();
    const { page } = await visitor();
    const other = await page.context().newPage();
    await Promise.all([page.goto(link), other.goto(link)]);
    await activate(page).click();
    await shows(page, 'Your account is active');
    await activate(other).click();
    await shows(other, 'Your account is already active');
  });

  test.each([
    ['light', 320],
    ['dark', 320],
    ['light', 1440],
    ['dark', 1440],
  ] as const)('in a %s theme, %d px wide: it fits, reads well and can be hit', async (colorScheme, width) => {
    const email = newAddress('a.name.as.long.as.one.may.well.be.in.earnest');
    const { link } = await mailedLink({ email });
    const { page } = await visitor({ colorScheme, viewport: { width, height: 640 }, reducedMotion: 'reduce' });
    await page.goto(link);
    for (const step of ['before', 'after']) {
      expect(
        await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth'),
        step,
      ).toBe(0);
      const ground = (await page.evaluate(
        'getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)',
      )) as number[];
      expect(Math.max(...ground) < 128, step).toBe(colorScheme === 'dark');
      const contrasts = (await page.evaluate(CONTRASTS)) as [string, number][];
      expect(contrasts.map(([name]) => name)).toContain('note');
      expect(
        contrasts.filter(([, ratio]) => !(ratio >= 4.5)),
        step,
      ).toEqual([]);
      if (step === 'after') continue;
      const box = await activate(page).boundingBox();
      expect(box?.height).toBeGreaterThanOrEqual(44);
      expect(box?.width).toBeGreaterThanOrEqual(44);
      expect(await page.evaluate("getComputedStyle(document.querySelector('button')).transitionDuration")).toBe('0s');
      await activate(page).click();
      await shows(page, 'Your account is active');
    }
  });

  test('what assistive technology needs is there: language, title, one heading, a main part, a named button', async () => {
    const { link } = await mailedLink({ locale: 'de' });
    const { page } = await visitor();
    await page.goto(link);
    const facts = () =>
      page.evaluate(`({
        lang: document.documentElement.lang,
        title: document.title.length > 10,
        headings: document.querySelectorAll('h1, h2, h3, h4, h5, h6').length,
        mains: document.querySelectorAll('main').length,
        statuses: document.querySelectorAll('[role=status]').length,
        nameless: [...document.querySelectorAll('button, input:not([type=hidden]), a, img')].filter((element) => !(element.textContent || element.alt)).length,
        drawings: [...document.querySelectorAll('svg')].filter((svg) => svg.getAttribute('aria-hidden') !== 'true').length,
        ids: [...document.querySelectorAll('[id]')].length - new Set([...document.querySelectorAll('[id]')].map(({ id }) => id)).size,
        zoomable: !/user-scalable|maximum-scale/.test(document.querySelector('meta[name=viewport]').content),
      })`);
    const expected = {
      lang: 'de',
      title: true,
      headings: 1,
      mains: 1,
      statuses: 1,
      nameless: 0,
      drawings: 0,
      ids: 0,
      zoomable: true,
    };
    expect(await facts()).toEqual(expected);
    await page.getByRole('button', { name: 'Konto aktivieren' }).click();
    await shows(page, 'Ihr Konto ist aktiv');
    expect(await facts()).toEqual(expected);
  });
});
