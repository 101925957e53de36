/** A mail whose mail server takes long: its job comes back later, and learns how the try ended. It is tried no more often than any other. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DeliveryFailed } from '../src/deliver.ts';
import { pacing } from '../src/pacing.ts';
import { createSendLedger } from '../src/send-ledger.ts';
import { CLOSE_WITHIN } from '../src/worker.ts';
import { createHarness, type Harness } from './harness.ts';

let harness: Harness;
let offers: number;
beforeEach(async () => {
  harness = await createHarness({ env: { WORKER_CONCURRENCY: '2' } });
  offers = 0;
});
afterEach(() => harness.close());

/** A mail is long after a moment, and its job comes back after another. */
const SOON = { after: 200, endedWithin: 4_000, comesBackAfter: 6_000 };

const FAILED_ASIDE = 'mail failed while it was set aside, its job is told when it comes back';

/** The server takes so many milliseconds at RCPT or after the data, and then answers so. */
function answers(where: 'rcpt' | 'data', after: number, code?: number): void {
  harness.hooks.delay = (phase) => (phase === where ? after : 0);
  harness.hooks.reject = (phase) => {
    if (phase === where) offers += 1;
    return phase === where && code !== undefined ? { code, message: 'so it is' } : undefined;
  };
}

const lines = (id: string) =>
  harness.logLines.map((line): Record<string, unknown> => JSON.parse(line)).filter((line) => line.mail_id === id);
const outcomes = (id: string) => lines(id).flatMap(({ outcome }) => outcome ?? []);
const said = (id: string) => lines(id).map(({ msg }) => msg);

/** Its job need not wait until it would come back by itself: what it learns then is in the ledger. */
async function comesBack(id: string): Promise<void> {
  await vi.waitFor(async () => expect(await harness.queue.getJobState(id)).toBe('delayed'), 10_000);
  await (await harness.queue.getJob(id))?.promote();
}

describe('a mail set aside that its server refuses for good', () => {
  it.each(['rcpt', 'data'] as const)(
    '(at %s) ends in the failed set, and the server is not asked again',
    async (where) => {
      answers(where, 600, 550);
      const worker = await harness.start({ backoff: () => 20, patience: SOON });
      const { id } = await harness.add('activation');
      await vi.waitFor(() => expect(said(id)).toContain(FAILED_ASIDE), 10_000);
      // Nothing says that it is in the failed set before it is.
      expect(outcomes(id)).toEqual([]);
      await comesBack(id);

      const failed = await harness.failed(id);
      expect(failed.failedReason).toMatch(/^smtp: 550 so it is at (RCPT TO|DATA)$/);
      expect(failed.attemptsMade).toBe(2);
      expect(offers).toBe(1);
      await vi.waitFor(() => expect(outcomes(id)).toEqual(['rejected']));
      const { body } = await worker.app.inject('/metrics');
      expect(body).toContain('latchkey_mail_jobs_total{name="activation",outcome="rejected"} 1');
      expect(body).toContain('latchkey_mail_failures_total{phase="smtp"} 1');
    },
  );

  it('is tried anew when an operator asks for that', async () => {
    answers('rcpt', 600, 550);
    await harness.start({ backoff: () => 20, patience: SOON });
    const { id, to } = await harness.add('activation');
    await vi.waitFor(() => expect(said(id)).toContain(FAILED_ASIDE), 10_000);
    await comesBack(id);
    const failed = await harness.failed(id);
    answers('rcpt', 0);
    await failed.retry('failed', { resetAttemptsMade: true, resetAttemptsStarted: true });
    await harness.settled(id);
    expect(harness.catcher.mails(to)).toHaveLength(1);
  });
});

describe('each try of a mail that is set aside uses one of its attempts', () => {
  it('(refused for now each time) and after the last it is in the failed set', async () => {
    answers('rcpt', 600, 451);
    await harness.start({ backoff: () => 20, patience: { ...SOON, endedWithin: 2_000, comesBackAfter: 2_500 } });
    const { id } = await harness.add('activation', {}, { attempts: 3 });
    const failed = await harness.failed(id, 20_000);
    expect(offers).toBe(3);
    expect(failed.attemptsMade).toBe(3);
    expect(failed.failedReason).toContain('451 so it is');
    await vi.waitFor(() => expect(outcomes(id)).toEqual(['retried', 'retried', 'given_up']));
  });

  it('(the final dot is never answered) so that no more copies arrive than it has attempts', async () => {
    answers('data', 60_000);
    await harness.start({ backoff: () => 20, patience: { ...SOON, endedWithin: 500, comesBackAfter: 1_500 } });
    let copies = 0;
    const { delay } = harness.hooks;
    harness.hooks.delay = (phase, session) => {
      if (phase === 'data') copies += 1;
      return delay?.(phase, session) ?? 0;
    };
    const { id } = await harness.add('activation', {}, { attempts: 3 });
    await harness.failed(id, 20_000);
    expect(copies).toBe(3);
  });

  it('and comes back no sooner than any other mail would after as many', async () => {
    answers('rcpt', 2_000, 451);
    await harness.start({ backoff: () => 3_600_000, patience: SOON });
    const { id } = await harness.add('activation');
    await vi.waitFor(async () => expect(await harness.queue.getJobState(id)).toBe('delayed'), 10_000);
    const job = await harness.queue.getJob(id);
    expect(job?.delay).toBe(3_600_000);
    expect(job?.attemptsMade).toBe(1);
  });
});

it('a mail accepted while its last attempt is set aside has not failed', async () => {
  answers('data', 600);
  await harness.start({ backoff: () => 20, patience: SOON });
  const { id, to } = await harness.add('activation', {}, { attempts: 1 });
  await harness.catcher.waitFor(to);
  expect(await harness.queue.getJobState(id)).toBe('delayed');
  await comesBack(id);
  await harness.settled(id);
  expect(outcomes(id)).toEqual(['accepted', 'already_accepted']);
  expect(harness.catcher.mails(to)).toHaveLength(1);
});

it('a worker told to stop waits for the mails set aside as for the others, and notes how they ended', async () => {
  answers('data', 2_000);
  const worker = await harness.start({ backoff: () => 20, patience: SOON });
  const { id, to } = await harness.add('activation');
  await vi.waitFor(async () => expect(await harness.queue.getJobState(id)).toBe('delayed'), 10_000);
  await worker.close();
  expect(harness.catcher.mails(to)).toHaveLength(1);
  expect(await harness.redis.get(harness.keys.mailLedger(id))).toBe('accepted');
  expect(outcomes(id)).toEqual(['accepted']);
});

it('a worker told to stop lets go in time of a mail set aside whose server does not answer', async () => {
  answers('rcpt', 60_000);
  const worker = await harness.start({ backoff: () => 20, patience: { ...SOON, endedWithin: 60_000 } });
  const { id } = await harness.add('activation');
  await vi.waitFor(async () => expect(await harness.queue.getJobState(id)).toBe('delayed'), 10_000);
  const told = performance.now();
  await worker.close();
  expect(performance.now() - told).toBeLessThan(CLOSE_WITHIN);
  expect(said(id)).toContain('mail not accepted, will be tried again');
});

describe('what is noted of a mail that failed while its job was away', () => {
  const failure = new DeliveryFailed('smtp', '550 no', { permanent: true, smtpCode: 550 });
  const MAIL = crypto.randomUUID();
  const ledger = () => createSendLedger(harness.redis, harness.keys, pacing(500));

  it('is told once, and then it is known again that an earlier try may have sent it', async () => {
    const { noteSending, noteFailure, take } = ledger();
    await noteSending(MAIL);
    await noteFailure(MAIL, failure);
    const { phase, reason, permanent, smtpCode } = failure;
    const told = { message: 'smtp: 550 no', phase, reason, permanent, smtpCode, remembered: true };
    await expect(take(MAIL, 'one@recipient.test')).rejects.toMatchObject(told);
    expect(await take(MAIL, 'one@recipient.test')).toBe('go');
    expect(await noteSending(MAIL)).toBe('sending');
  });

  it('does not overwrite how it ended', async () => {
    const { noteFailure, take } = ledger();
    await harness.redis.set(harness.keys.mailLedger(MAIL), 'withdrawn');
    await noteFailure(MAIL, failure);
    expect(await take(MAIL, 'one@recipient.test')).toBe('withdrawn');
  });
});
