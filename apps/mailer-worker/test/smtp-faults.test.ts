/** A fault in each phase of the conversation with the mail server, of each kind: the mail arrives, and once. */
import { startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Fault, type Phase, phases, startFaultyWire } from './faulty-wire.ts';
import { createHarness } from './harness.ts';

/** A worker that reaches its mail server by a wire with a fault, and one mail. */
async function sendOver(at: Phase, fault: Fault) {
  const catcher = await startMailCatcher({ startTls: at === 'STARTTLS' });
  const wire = await startFaultyWire(catcher.smtpPort, at, fault);
  const login = at === 'AUTH' ? 'user:secret@' : '';
  const tls = at === 'STARTTLS' ? 'requireTLS=true&tls.rejectUnauthorized=false' : 'ignoreTLS=true';
  const patience = 'connectionTimeout=400&greetingTimeout=400&socketTimeout=400';
  const harness = await createHarness({
    env: { SMTP_URL: `smtp://${login}127.0.0.1:${wire.port}?${tls}&${patience}` },
  });
  onTestFinished(async () => {
    await harness.close();
    wire.close();
    await catcher.stop();
  });
  const worker = await harness.start();
  const { id, to } = await harness.add('activation');
  await harness.settled(id);
  return { catcher, harness, wire, worker, id, to };
}

describe.each(['drop', 'stall', 'error'] as const)('%s', (fault) => {
  it.each(phases.filter((phase) => phase !== 'QUIT'))('at %s: the mail arrives once', async (phase) => {
    const { catcher, harness, wire, id, to } = await sendOver(phase, fault);
    expect(wire.struck()).toBe(true);
    expect(catcher.mails(to)).toHaveLength(1);
    expect(await harness.redis.get(harness.keys.mailLedger(id))).toBe('accepted');
    expect(await harness.queue.getFailedCount()).toBe(0);
  });

  it('at QUIT: the mail is delivered, and the worker ends', async () => {
    const { catcher, worker, to } = await sendOver('QUIT', fault);
    await worker.close();
    expect(catcher.mails(to)).toHaveLength(1);
  });
});

describe('the answer to the final dot is lost', () => {
  it('so the mail comes twice, with one Message-ID and a link each, and is counted', async () => {
    const { catcher, worker, to } = await sendOver('final dot', 'answer lost');
    await vi.waitFor(() => expect(catcher.mails(to)).toHaveLength(2));
    const [first, second] = catcher.mails(to);
    expect(second?.headers.get('message-id')).toBe(first?.headers.get('message-id'));
    const { body } = await worker.app.inject('/metrics');
    expect(body).toContain('latchkey_mail_possible_duplicates_total 1');
  });
});
