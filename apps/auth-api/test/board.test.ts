import { freePort } from '@latchkey/dev-stack/ports';
import { programOnPath } from '@latchkey/dev-stack/system-programs';
import { chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { addClient, basic, type TestClient } from './clients.ts';
import { type RefusingMail, startRefusingMail } from './refusing-mail.ts';

const chromiumPath = programOnPath('chromium');

let all: RefusingMail;
let apiPort: number;
beforeAll(async () => {
  apiPort = await freePort();
  all = await startRefusingMail({ BOARD_API_URL: `http://127.0.0.1:${apiPort}` });
  await all.api.app.listen({ host: '127.0.0.1', port: apiPort });
});
afterAll(() => all.stop());

/** Asks the board, as somebody. */
const board = (path: string, init: RequestInit = {}, who: TestClient | undefined = all.admin) =>
  fetch(`${all.worker.url}/board${path}`, {
    ...init,
    headers: { ...(who && { authorization: basic(who) }), ...init.headers },
  });
const put = (path: string, headers: Record<string, string> = {}) =>
  board(`/api/queues/mail/${path}`, { method: 'PUT', headers });
const status = async (answer: Promise<Response>) => (await answer).status;

describe('the board', () => {
  test('is for clients with scope admin alone, its files and its data alike', async () => {
    const plain = await addClient(all.side.databaseUrl, 'introspect');
    for (const path of ['', '/', '/api/queues', '/queue/mail', '/static/css/x.css']) {
      const unasked = await fetch(`${all.worker.url}/board${path}`);
      expect({ path, status: unasked.status }).toEqual({ path, status: 401 });
      expect(unasked.headers.get('www-authenticate')).toMatch(/^Basic realm=/);
      for (const who of [plain, { ...all.admin, secret: 'wrong' }, { id: 'nobody', secret: '' }])
        expect(await status(board(path, {}, who))).toBe(401);
    }
    expect(await status(board('/'))).toBe(200);
  });

  test('shows a failed mail with its recipient and the reason, and loads nothing from elsewhere', async () => {
    const { id, to } = await all.failedMail();
    const page = await board('/');
    expect(page.headers.get('content-security-policy')).toMatch(
      /^default-src 'none'; script-src 'self';.*frame-ancestors 'none'$/,
    );
    expect(page.headers.get('x-content-type-options')).toBe('nosniff');
    expect(page.headers.get('cache-control')).toBe('no-store');
    const { queues } = (await (await board('/api/queues?activeQueue=mail&status=failed')).json()) as {
      queues: { jobs: { id: string; data: { to: string }; failedReason: string }[] }[];
    };
    const job = queues[0]?.jobs.find((one) => one.id === id);
    expect(job).toMatchObject({ data: { to }, failedReason: expect.stringContaining('550') });
  });

  test('retries a mail as the act of the client who asked', async () => {
    const { id, to } = await all.failedMail();
    all.refused.delete(to);
    expect(await status(put(`${id}/retry`))).toBe(204);
    await all.settled(to);
    expect(all.inbox.mails(to)).toHaveLength(1);
    expect(await all.acts(id)).toMatchObject([{ type: 'mail.retried', actor_id: all.admin.id }]);
    expect(await status(put(`${id}/retry`))).toBe(404);
  });

  test('discards a mail: its row goes with it', async () => {
    const { id, to } = await all.failedMail();
    expect(await status(put(`${id}/clean`))).toBe(204);
    expect([await all.owedTo(to), await all.queue.getJobState(id)]).toEqual([undefined, 'unknown']);
    expect(await all.acts(id)).toMatchObject([{ type: 'mail.discarded', actor_id: all.admin.id }]);
  });

  test('takes nothing another site has a browser ask for', async () => {
    const { id } = await all.failedMail();
    for (const headers of [
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { origin: `http://127.0.0.1:${apiPort}` },
    ])
      expect(await status(put(`${id}/clean`, headers))).toBe(403);
    expect(await all.queue.getJobState(id)).toBe('failed');
    expect(await status(put(`${id}/retry`, { origin: all.worker.url }))).toBe(204);
  });

  test('does nothing else: what the outbox would not know of is refused', async () => {
    const { id } = await all.failedMail();
    for (const path of ['pause', 'empty', 'obliterate', 'clean/failed', 'retry/failed', 'promote', `${id}/promote`])
      expect({ path, status: await status(put(path)) }).toEqual({ path, status: 403 });
    expect(await status(board('/api/queues/pause', { method: 'PUT' }))).toBe(403);
    expect(await status(board('/api/queues/mail/add', { method: 'POST', body: '{}' }))).toBe(403);
    expect(await status(board(`/api/queues/mail/${id}/update-data`, { method: 'PATCH' }))).toBe(403);
    expect(await all.queue.getJobState(id)).toBe('failed');
    expect(await all.queue.isPaused()).toBe(false);
  });

  test('shows nothing any more to a client that was revoked', async () => {
    const other = await addClient(all.side.databaseUrl, 'admin');
    expect(await status(board('/api/queues', {}, other))).toBe(200);
    expect((await all.act('DELETE', `/clients/${other.id}`)).statusCode).toBe(204);
    expect(await status(board('/api/queues', {}, other))).toBe(401);
  });

  test('limits logins that fail, however many at once, and keeps out nobody who is in', async () => {
    expect(await status(board('/'))).toBe(200);
    const tries = await Promise.all(Array.from({ length: 40 }, () => board('/', {}, { id: 'nobody', secret: 'x' })));
    const refused = tries.filter((answer) => answer.status === 429);
    expect(refused.length).toBeGreaterThanOrEqual(20);
    expect(Number(refused[0]?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await status(board('/'))).toBe(200);
  });

  test('says 503 while Redis is away, and is back with it', async () => {
    all.server.freeze();
    const answer = await board('/api/queues');
    all.server.thaw();
    expect(answer.status).toBeOneOf([500, 503]);
    await vi.waitFor(async () => expect(await status(board('/api/queues'))).toBe(200), { timeout: 10_000 });
  });

  test.skipIf(chromiumPath === undefined)('works in a browser', async () => {
    const { id, to } = await all.failedMail();
    all.refused.delete(to);
    const browser = await chromium.launch({
      ...(chromiumPath !== undefined && { executablePath: chromiumPath }),
      args: ['--disable-gpu', '--disable-background-networking', '--disable-component-update', '--no-first-run'],
    });
    try {
      const page = await browser.newPage({ httpCredentials: { username: all.admin.id, password: all.admin.secret } });
      page.setDefaultTimeout(10_000);
      await page.goto(`${all.worker.url}/board/queue/mail/${id}`);
      await page.getByText('550').first().waitFor();
      // Its buttons have icons for names: the first beside the id retries, and asks back.
      await page.locator(`xpath=//*[text()='${id}']/following::button[1]`).click();
      await page.getByRole('button', { name: 'Confirm' }).click();
      await all.settled(to);
      expect(all.inbox.mails(to)).toHaveLength(1);
    } finally {
      await browser.close();
    }
  });
});
