import { builtApp } from '@latchkey/dev-stack/built-apps';
import { type MailCatcher, type SmtpRejection, startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { startProcess } from '@latchkey/dev-stack/processes';
import { type RunningRedis, startRedis } from '@latchkey/dev-stack/redis';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Console, newAddress, PASSWORD, startConsole } from './console.ts';

let all: Console;
let redis: RunningRedis;
let inbox: MailCatcher;
let worker: ReturnType<typeof startProcess>;
let refusal: SmtpRejection | undefined;

beforeAll(async () => {
  redis = await startRedis();
  inbox = await startMailCatcher({ reject: (phase) => (phase === 'rcpt' ? refusal : undefined) });
  all = await startConsole(redis.url);
  worker = startProcess({
    command: process.execPath,
    args: [builtApp('mailer-worker')],
    env: {
      PATH: process.env.PATH,
      REDIS_URL: redis.url,
      SMTP_URL: inbox.smtpUrl,
      MAIL_FROM: 'no-reply@example.test',
      PUBLIC_URL: 'https://auth.example.test',
      HOST: '127.0.0.1',
      PORT: '0',
    },
    endSignal: 'SIGTERM',
    output: () => undefined,
  });
});
afterAll(async () => {
  await worker.stop();
  await all.stop();
  await Promise.all([inbox.stop(), redis.stop()]);
});

const failed = async (): Promise<{ id: string; to: string }[]> =>
  JSON.parse((await all.latchkey(['mail', 'failed', '--json'])).out);

/** A registration whose mail is in the failed set. */
async function failedMail() {
  refusal = { code: 550, message: 'no such user' };
  const to = newAddress();
  await all.post('/v1/users', { email: to, password: PASSWORD });
  return vi.waitFor(
    async () => {
      const mail = (await failed()).find((one) => one.to === to);
      if (!mail) throw new Error('has not failed');
      return mail;
    },
    { timeout: 20_000, interval: 50 },
  );
}

describe('failed mails', () => {
  test('are none, at first', async () => {
    expect(await all.latchkey(['mail', 'failed'])).toMatchObject({ exit: 0, out: 'no failed mails\n' });
  });

  test('are listed and shown with recipient and reason', async () => {
    const { id, to } = await failedMail();
    const listed = await all.latchkey(['mail', 'failed']);
    expect(listed.exit).toBe(0);
    expect(listed.out).toMatch(/^ID +NAME +TO +FAILED_AT +ATTEMPTS +REASON$/m);
    expect(listed.out).toMatch(new RegExp(`^${id} +activation +${to} .*550`, 'm'));
    const one = await all.latchkey(['mail', 'failed', id]);
    expect(one).toMatchObject({ exit: 0, out: expect.stringMatching(new RegExp(`^to +${to}$`, 'm')) });
    expect(await all.latchkey(['mail', 'failed', '123e4567-e89b-12d3-a456-426614174000'])).toMatchObject({
      exit: 1,
      err: expect.stringContaining('mail_unknown'),
    });
  });

  test('are discarded one by one, when somebody says yes', async () => {
    const { id } = await failedMail();
    expect(await all.latchkey(['mail', 'discard', id])).toMatchObject({ exit: 2 });
    expect(await all.latchkey(['mail', 'discard', id], {}, false)).toMatchObject({ exit: 2 });
    expect(await failed()).toContainEqual(expect.objectContaining({ id }));
    expect(await all.latchkey(['mail', 'discard', id, '--yes', '--json'])).toMatchObject({ exit: 0 });
    expect((await failed()).map((mail) => mail.id)).not.toContain(id);
    expect(await all.rows('SELECT FROM mail_outbox WHERE id = $1', [id])).toEqual([]);
    expect(await all.latchkey(['mail', 'discard', id, '--yes'])).toMatchObject({ exit: 1 });
  });

  test('are retried one by one, or all at once', async () => {
    const mails = [await failedMail(), await failedMail(), await failedMail()];
    refusal = undefined;
    const [first] = mails;
    expect(await all.latchkey(['mail', 'retry', first?.id ?? ''])).toMatchObject({ exit: 0 });
    const rest = await all.latchkey(['mail', 'retry', 'all', '--json']);
    expect(rest.exit).toBe(0);
    expect(JSON.parse(rest.out).retried).toEqual(expect.arrayContaining(mails.slice(1).map(({ id }) => id)));
    for (const { to } of mails) await inbox.waitFor(to);
    expect(await failed()).toEqual([]);
    expect(await all.latchkey(['mail', 'retry', 'all'])).toMatchObject({
      exit: 0,
      out: expect.stringContaining('0 of 0'),
    });
  });
});
