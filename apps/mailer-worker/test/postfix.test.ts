/** A real Postfix as the relay: STARTTLS with a certificate that is checked, a login, and greylisting. */
import { canRunPostfix, type RunningPostfix, startPostfix } from '@latchkey/dev-stack/postfix';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createHarness, type Harness } from './harness.ts';

const [USER, PASSWORD] = ['latchkey', 'p@ss:word/1'];

describe.skipIf(!canRunPostfix())('through Postfix', () => {
  const greylisted = new Set<string>();
  let harness: Harness;
  let postfix: RunningPostfix;
  beforeAll(async () => {
    harness = await createHarness();
    postfix = await startPostfix({
      relayTo: harness.catcher.smtpPort,
      user: USER,
      password: PASSWORD,
      // Each recipient once.
      greylists(recipient) {
        const known = greylisted.has(recipient);
        greylisted.add(recipient);
        return !known;
      },
    });
  });
  afterAll(async () => {
    await harness.close();
    await postfix.stop();
  });

  function startWorker(password: string) {
    const login = `${USER}:${encodeURIComponent(password)}`;
    const tls = `requireTLS=true&tls.ca=${encodeURIComponent(postfix.ca)}`;
    harness.variables.SMTP_URL = `smtp://${login}@127.0.0.1:${postfix.port}?${tls}`;
    return harness.start();
  }

  test('a wrong password loses no mail: it waits, with no attempt used up, and no password is logged', async () => {
    const refused = await startWorker('wrong-password');
    const { id, to } = await harness.add('activation');
    await vi.waitFor(() => expect(harness.logLines.join('\n')).toContain('no mail server takes mails'), 10_000);
    await refused.close();
    expect(harness.logLines.join('\n')).not.toMatch(/wrong-password/);
    expect((await harness.queue.getJob(id))?.attemptsMade).toBe(0);

    const worker = await startWorker(PASSWORD);
    await harness.catcher.waitFor(to, { timeoutMs: 20_000 });
    await harness.settled(id);
    await worker.close();
  });

  test('mails that are greylisted first arrive once each, on connections with TLS and a login', async () => {
    await startWorker(PASSWORD);
    const mails = await Promise.all(Array.from({ length: 20 }, () => harness.add('activation')));
    for (const { id, to } of mails) {
      await harness.catcher.waitFor(to, { timeoutMs: 20_000 });
      await harness.settled(id);
    }
    for (const { to } of mails) {
      expect(greylisted).toContain(to);
      const [mail, ...more] = harness.catcher.mails(to);
      expect(more).toEqual([]);
      // Postfix writes down how it got the mail: ESMTP with TLS and AUTH (RFC 3848).
      expect(mail?.raw.toString()).toMatch(/^Received: .*?with ESMTPSA/ms);
    }
  });
});
