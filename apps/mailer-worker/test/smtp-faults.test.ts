/** A fault in each phase of the conversation with the mail server, of each kind: the mail arrives, and once. */
import { type MailCatcherOptions, startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { keysOf } from '@latchkey/dev-stack/test-redis';
import { createLogger } from '@latchkey/shared/logger';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { createMailServerWatch } from '../src/mail-server-watch.ts';
import { createMailTransport } from '../src/smtp.ts';
import { type Fault, type Phase, phases, startDarkWire, startFaultyWire } from './faulty-wire.ts';
import { createHarness } from './harness.ts';

/** A worker that reaches its mail server by a wire with a fault, and one mail. */
async function sendOver(
  at: Phase,
  fault: Fault,
  { reject, before = 0 }: { reject?: MailCatcherOptions['reject']; before?: number } = {},
) {
  const catcher = await startMailCatcher({ startTls: at === 'STARTTLS', ...(reject && { reject }) });
  const wire = await startFaultyWire(catcher.smtpPort, at, fault, before);
  const login = at === 'AUTH' ? 'user:secret@' : '';
  const tls = at === 'STARTTLS' ? 'requireTLS=true&tls.rejectUnauthorized=false' : 'ignoreTLS=true';
  // Only silence is waited out: a stall of this machine is no fault of the server's.
  const wait = fault === 'stall' ? 400 : 10_000;
  const patience = `connectionTimeout=${wait}&greetingTimeout=${wait}&socketTimeout=${wait}`;
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

it.each(['drop', 'error'] as const)(
  'a server that has had enough of a connection (%s at the second MAIL) is given the mail over another one at once',
  async (fault) => {
    const { catcher, harness, wire } = await sendOver('MAIL', fault, { before: 1 });
    const { id, to } = await harness.add('activation');
    await harness.settled(id);
    expect(wire.struck()).toBe(true);
    expect(catcher.mails(to)).toHaveLength(1);
    expect(harness.logLines.filter((line) => line.includes('will be tried again'))).toEqual([]);
  },
);

describe('the answer to the final dot is lost', () => {
  it('so the mail comes twice, with one Message-ID and a link each, and is counted', async () => {
    const { catcher, worker, to } = await sendOver('final dot', 'answer lost');
    await vi.waitFor(() => expect(catcher.mails(to)).toHaveLength(2));
    const [first, second] = catcher.mails(to);
    expect(second?.headers.get('message-id')).toBe(first?.headers.get('message-id'));
    const { body } = await worker.app.inject('/metrics');
    expect(body).toContain('latchkey_mail_possible_duplicates_total 1');
  });

  it('and a refusal after it takes back only the note of its own try: the mail that comes twice is counted', async () => {
    let refusals = 0;
    const { catcher, worker, to } = await sendOver('final dot', 'answer lost', {
      reject: (phase) => (phase === 'data' && refusals++ === 1 ? { code: 451, message: 'later' } : undefined),
    });
    await vi.waitFor(() => expect(catcher.mails(to)).toHaveLength(2));
    const { body } = await worker.app.inject('/metrics');
    expect(body).toContain('latchkey_mail_possible_duplicates_total 1');
  });
});

/** A mail is long after a moment, and one that is set aside comes back in the next test. */
const SOON = { after: 400, endedWithin: 60_000, comesBackAfter: 60_000 };
const start = { backoff: () => 20, patience: SOON };

describe('a mail server that drops every packet', () => {
  it.each([
    ['from the start on', 0],
    ['with connections open to it', 2],
  ])(
    '(%s) is away: mails wait in the order of their age and leave within 10 s of its return',
    async (_when, before) => {
      const catcher = await startMailCatcher();
      const wire = await startDarkWire(catcher.smtpPort);
      const harness = await createHarness({
        env: { SMTP_URL: `smtp://127.0.0.1:${wire.port}?connectionTimeout=600`, WORKER_CONCURRENCY: '2' },
      });
      onTestFinished(async () => {
        await harness.close();
        wire.close();
        await catcher.stop();
      });
      await harness.start(start);
      for (let n = 0; n < before; n += 1) await harness.add('activation');
      await vi.waitFor(async () => expect(await harness.redis.scard(harness.keys.mailAccepted)).toBe(before));

      wire.goDark();
      const owed = [];
      for (let n = 0; n < 12; n += 1) owed.push(await harness.add('activation'));
      await vi.waitFor(() => expect(harness.logLines.join('\n')).toContain('no mail server takes mails'));
      // None is put off.
      await vi.waitFor(async () => expect(await harness.queue.getWaitingCount()).toBe(owed.length));

      wire.heal();
      const arrived = await vi.waitFor(() => {
        const mails = catcher.mails().flatMap(({ to }) => to);
        expect(mails).toHaveLength(before + owed.length);
        return mails;
      }, 10_000);
      const late = owed.map(({ to }, place) => Math.abs(arrived.indexOf(to) - before - place));
      // Two at a time may change places.
      expect(Math.max(...late)).toBeLessThanOrEqual(2);
    },
  );
});

it('a mail whose connection is not answered at EHLO, while others are, goes out by another', async () => {
  const harness = await createHarness();
  const wire = await startFaultyWire(harness.catcher.smtpPort, 'EHLO', 'stall');
  onTestFinished(async () => {
    await harness.close();
    wire.close();
  });
  harness.variables.SMTP_URL = `smtp://127.0.0.1:${wire.port}`;
  await harness.start(start);
  const { id } = await harness.add('activation');
  await harness.settled(id);
  expect(wire.struck()).toBe(true);
});

it.each([
  [30, 30],
  [200, 40],
])(
  'a mail server that hangs over every mail gets fifty of a worker (WORKER_CONCURRENCY=%i), and only for those there is a key',
  async (concurrency, active) => {
    let held = 0;
    const catcher = await startMailCatcher({ delay: (phase) => (phase === 'rcpt' && ++held ? 60_000 : 0) });
    const harness = await createHarness({
      env: { SMTP_URL: catcher.smtpUrl, WORKER_CONCURRENCY: String(concurrency) },
    });
    onTestFinished(async () => {
      // First, so that the worker has nothing to wait for.
      await catcher.stop();
      await harness.close();
    });
    const after = 500;
    await harness.start({ patience: { ...SOON, after } });
    for (let n = 0; n < 60; n += 1) await harness.add('activation', { to: `someone@domain${n}.test` });
    await vi.waitFor(() => expect(held).toBe(50), 10_000);
    // Time in which more could be set aside.
    await new Promise((resolve) => setTimeout(resolve, 2 * after));
    expect(await keysOf(harness.redis, `${harness.namespace}:activation-key:*`)).toHaveLength(50);
    const jobs = await harness.queue.getJobCounts('active', 'delayed', 'waiting');
    expect(jobs).toEqual({ active, delayed: 50 - active, waiting: 10 });
  },
);

describe('a look for the mail server', () => {
  it('that is not answered after the greeting ends by itself', async () => {
    const catcher = await startMailCatcher();
    const wire = await startFaultyWire(catcher.smtpPort, 'EHLO', 'stall');
    onTestFinished(async () => {
      wire.close();
      await catcher.stop();
    });
    const transport = createMailTransport(`smtp://127.0.0.1:${wire.port}`, undefined, 200);
    await expect(transport.verify()).rejects.toThrow();
    await transport.verify();
  });

  it('that hangs holds up no other: mails leave when the next one is answered', async () => {
    const looks = [new Promise(() => undefined), Promise.resolve()];
    const resume = vi.fn();
    const logger = createLogger('mailer-worker', 'silent');
    const watch = createMailServerWatch({ verify: async () => looks.shift(), pause: () => undefined, resume, logger });
    onTestFinished(() => watch.close());
    watch.away('a test');
    await vi.waitFor(() => expect(resume).toHaveBeenCalledOnce());
  });
});
