import { createTransport } from 'nodemailer';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type MailCatcher, type MailCatcherOptions, type SmtpPhase, startMailCatcher } from '../src/mail-catcher.ts';
import { MailStore } from '../src/mail-store.ts';
import { folder } from './stack-under-test.ts';

async function catcher(options: MailCatcherOptions = {}): Promise<MailCatcher> {
  const started = await startMailCatcher(options);
  onTestFinished(() => started.stop());
  return started;
}

async function send(
  { smtpUrl }: MailCatcher,
  to: string,
  more: { subject?: string; html?: string } = {},
): Promise<void> {
  const transport = createTransport(smtpUrl);
  await transport.sendMail({
    from: 'Latchkey <no-reply@latchkey.example>',
    to,
    subject: 'Grüße',
    text: 'Open https://latchkey.example/activate/abc?x=1&y=2 now',
    headers: { 'Auto-Submitted': 'auto-generated' },
    ...more,
  });
  transport.close();
}

test('a mail is caught as it was sent: envelope, headers, text, HTML, source', async () => {
  const inbox = await catcher();
  await send(inbox, 'Ada@example.com', { html: '<p>Grüße</p>' });
  const mail = await inbox.waitFor('ada@EXAMPLE.com');
  expect(mail).toMatchObject({ from: 'no-reply@latchkey.example', to: ['Ada@example.com'], subject: 'Grüße' });
  expect(mail.text).toContain('https://latchkey.example/activate/abc');
  expect(mail.html).toContain('<p>Grüße</p>');
  expect(mail.headers.get('auto-submitted')).toBe('auto-generated');
  expect(mail.raw).toContain('Content-Type: multipart/alternative');
  expect(mail.receivedAt.getTime()).toBeLessThanOrEqual(Date.now());
});

test('waiting sees only what was asked for, and says what came instead', async () => {
  const inbox = await catcher();
  await send(inbox, 'ada@example.com', { subject: 'one' });
  await send(inbox, 'bob@example.com', { subject: 'other' });
  const first = await inbox.waitFor('ada@example.com');
  await expect(inbox.waitFor('ada@example.com', { after: first, timeoutMs: 20 })).rejects.toThrow('No 1 mail(s)');
  const second = inbox.waitFor('ada@example.com', { after: first, subject: /two/ });
  await send(inbox, 'ada@example.com', { subject: 'one and a half' });
  await send(inbox, 'ada@example.com', { subject: 'two' });
  expect((await second).subject).toBe('two');
  expect((await inbox.waitFor('ada@example.com', { count: 3 })).subject).toBe('two');
  await expect(inbox.waitFor('ada@example.com', { count: 4, timeoutMs: 20 })).rejects.toThrow(/bob@example.com: other/);
  inbox.clear();
  expect(inbox.mails()).toEqual([]);
});

describe('a suite can make SMTP fail', () => {
  for (const phase of ['connect', 'mail', 'rcpt', 'data'] as const satisfies readonly SmtpPhase[]) {
    test(`in the phase ${phase}`, async () => {
      let failing = true;
      const inbox = await catcher({
        reject: (at) => (failing && at === phase ? { code: 451, message: 'not now' } : undefined),
      });
      await expect(send(inbox, 'ada@example.com')).rejects.toMatchObject({ responseCode: 451 });
      expect(inbox.mails()).toEqual([]);
      failing = false;
      await send(inbox, 'ada@example.com');
      expect(inbox.mails()).toHaveLength(1);
    });
  }

  test('by the address, and slowly', async () => {
    const asked: SmtpPhase[] = [];
    const inbox = await catcher({
      reject: (phase, { envelope }) =>
        phase === 'data' && envelope.rcptTo.some(({ address }) => address.startsWith('gone'))
          ? { code: 550, message: 'no such user' }
          : undefined,
      delay(phase) {
        asked.push(phase);
        return 1;
      },
    });
    await expect(send(inbox, 'gone@example.com')).rejects.toMatchObject({ responseCode: 550 });
    await send(inbox, 'here@example.com');
    expect(inbox.mails().map(({ to }) => to)).toEqual([['here@example.com']]);
    expect(asked.slice(0, 4)).toEqual(['connect', 'mail', 'rcpt', 'data']);
  });
});

test('the inbox survives a restart, and ids go on counting', async () => {
  const dir = folder();
  const before = await startMailCatcher({ dir });
  await send(before, 'ada@example.com', { html: '<p>ü</p>' });
  const kept = await before.waitFor('ada@example.com');
  await before.stop();
  const after = await catcher({ dir });
  expect(after.mails()).toEqual([kept]);
  await send(after, 'ada@example.com');
  expect(Number(after.mails().at(-1)?.id)).toBe(Number(kept.id) + 1);
  after.clear();
  expect((await MailStore.open(dir)).list()).toEqual([]);
});

test('it keeps the last thousand mails', async () => {
  const store = await MailStore.open(undefined);
  for (let number = 1; number <= 1001; number += 1) {
    await store.add({ from: '', to: ['ada@example.com'] }, Buffer.from(`Subject: ${number}\r\n\r\n`));
  }
  expect(store.list()).toHaveLength(1000);
  expect(store.list()[0]?.subject).toBe('2');
});

describe('the web inbox', () => {
  test('lists, shows and deletes, as pages and as JSON', async () => {
    const inbox = await catcher();
    await send(inbox, 'ada@example.com', { subject: 'first' });
    await send(inbox, 'bob@example.com', { subject: 'second' });
    const list = await text(inbox, '/');
    expect(list.indexOf('second')).toBeLessThan(list.indexOf('first'));
    const [caught] = inbox.mails();
    const mail = await json(inbox, `/api/mails/${caught?.id}`);
    expect(await json(inbox, '/api/mails?to=ADA@example.com')).toEqual({ mails: [mail] });
    expect(mail).toMatchObject({ subject: 'first', headers: { 'auto-submitted': 'auto-generated' } });
    expect(await text(inbox, `/mails/${caught?.id}`)).toContain(
      'href="https://latchkey.example/activate/abc?x=1&amp;y=2"',
    );
    expect(await text(inbox, `/mails/${caught?.id}/source`)).toContain('Subject: first');
    expect((await fetch(`${inbox.webUrl}/api/mails/999`)).status).toBe(404);
    expect((await fetch(`${inbox.webUrl}/api/mails`, { method: 'PUT' })).status).toBe(405);
    expect((await fetch(`${inbox.webUrl}/api/mails`, { method: 'DELETE' })).status).toBe(204);
    expect(inbox.mails()).toEqual([]);
  });

  test('runs nothing of what a mail carries', async () => {
    const inbox = await catcher();
    const script = '<script>alert(1)</script>';
    await send(inbox, 'ada@example.com', { subject: script, html: `<p>hello</p>${script}` });
    const { id } = await inbox.waitFor('ada@example.com');
    const page = await fetch(`${inbox.webUrl}/mails/${id}`);
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'");
    const shown = await page.text();
    expect(shown).not.toContain('<script');
    expect(/<iframe[^>]*sandbox="([^"]*)"/.exec(shown)?.[1]).not.toContain('allow-scripts');
    expect(await text(inbox, '/')).not.toContain('<script');
    const mail = await fetch(`${inbox.webUrl}/mails/${id}/html`);
    expect(mail.headers.get('content-security-policy')).toMatch(/^sandbox (?!.*allow-scripts).*default-src 'none'/);
  });

  test('takes no order from another site', async () => {
    const inbox = await catcher();
    await send(inbox, 'ada@example.com');
    const headers = { 'sec-fetch-site': 'cross-site' };
    expect((await fetch(`${inbox.webUrl}/clear`, { method: 'POST', headers })).status).toBe(403);
    expect(inbox.mails()).toHaveLength(1);
  });
});

test('a taken port is named', async () => {
  const inbox = await catcher();
  await expect(startMailCatcher({ smtpPort: inbox.smtpPort })).rejects.toThrow(
    `Port ${inbox.smtpPort} (SMTP) is taken`,
  );
});

async function text({ webUrl }: MailCatcher, path: string): Promise<string> {
  return (await fetch(`${webUrl}${path}`)).text();
}

async function json({ webUrl }: MailCatcher, path: string): Promise<unknown> {
  return (await fetch(`${webUrl}${path}`)).json();
}
