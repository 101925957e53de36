import { freePort } from '@latchkey/dev-stack/ports';
import { programOnPath } from '@latchkey/dev-stack/system-programs';
import { type Browser, type BrowserContextOptions, chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { activeUser, logIn } from '../accounts.ts';
import { startMailSide, startTestApp, type TestApp } from '../test-app.ts';

const executablePath = programOnPath('chromium');
const NEW_PASSWORD = 'seven purple teapots sing';

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
let worker: Awaited<ReturnType<typeof side.startWorker>>;
let browser: Browser;
let origin: string;

beforeAll(async () => {
  if (executablePath === undefined) return;
  const port = await freePort();
  origin = `http://127.0.0.1:${port}`;
  side = await startMailSide({ PUBLIC_URL: origin });
  [api, worker, browser] = await Promise.all([
    startTestApp({ databaseUrl: side.databaseUrl, redisUrl: side.redisUrl, env: { PUBLIC_URL: origin } }),
    side.startWorker(),
    chromium.launch({
      executablePath,
      // Nothing of the browser's own talks to anybody, and no GPU is asked for.
      args: ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-sync'],
    }),
  ]);
  await api.app.listen({ host: '127.0.0.1', port });
});
afterAll(async () => {
  if (executablePath === undefined) return;
  await browser.close();
  await api.close();
  await worker.stop();
  await side.stop();
});

/** An account that asked for a new password, its page open, and what the browser had to complain about. */
async function visitor(options: BrowserContextOptions = {}) {
  const email = await activeUser(api);
  await api.post('/v1/password-resets', { email });
  const { html } = await side.mail.waitFor(email, { subject: /Choose a new password/ });
  const [link = ''] = /http[^"<\s]+\/reset-password\/[A-Za-z0-9]{32}/.exec(html) ?? [];
  expect(link.startsWith(origin)).toBe(true);
  const context = await browser.newContext(options);
  onTestFinished(() => context.close());
  const complaints: string[] = [];
  context.on('console', (message) => {
    // Chromium's own note that an answer was an error: what a weak password is meant to get.
    if (!/^Failed to load resource: the server responded with a status of 400/.test(message.text()))
      complaints.push(message.text());
  });
  context.on('request', (request) => {
    if (!request.url().startsWith(origin)) complaints.push(`left the origin: ${request.url()}`);
  });
  const page = await context.newPage();
  await page.goto(link);
  return { email, page, complaints };
}

describe.skipIf(executablePath === undefined)('a browser with the mailed link to a new password', () => {
  test.each([
    ['with JavaScript', {}],
    ['without JavaScript', { javaScriptEnabled: false }],
  ])('sets it %s; a weak one is asked for again', async (_, options) => {
    const { email, page, complaints } = await visitor(options);
    const { access_token: token } = await logIn(api, email);
    await page.getByLabel('New password').fill('password1');
    await page.getByRole('button', { name: 'Set password' }).click();
    await page.getByRole('heading', { name: 'Choose another password' }).waitFor();
    await page.getByLabel('New password').fill(NEW_PASSWORD);
    await page.getByRole('button', { name: 'Set password' }).click();
    await page.getByRole('heading', { name: 'Your new password is set' }).waitFor();
    expect((await api.get('/v1/me', token)).statusCode).toBe(401);
    expect((await api.login(email, NEW_PASSWORD)).statusCode).toBe(200);
    expect(complaints).toEqual([]);
  });

  test('by keyboard alone, on 320 px in the dark, nothing is cut off', async () => {
    const { email, page, complaints } = await visitor({ viewport: { width: 320, height: 640 }, colorScheme: 'dark' });
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(320);
    await page.keyboard.press('Tab');
    await page.keyboard.type(NEW_PASSWORD);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Your new password is set' }).waitFor();
    expect((await api.login(email, NEW_PASSWORD)).statusCode).toBe(200);
    expect(complaints).toEqual([]);
  });
});
