import { randomUUID } from 'node:crypto';
import { MAIL_JOB_OPTIONS } from '@latchkey/shared/mail-jobs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SLOW_MAIL } from '../src/pacing.ts';
import { createHarness, type Harness } from './harness.ts';

describe('the age of the queue', () => {
  let harness: Harness;
  beforeEach(async () => {
    // Full with one mail.
    harness = await createHarness({ env: { WORKER_CONCURRENCY: '1' } });
  });
  afterEach(() => harness.close());

  it('is that of the oldest mail nobody has taken yet: one that comes back has waited elsewhere, for a mail server or its turn', async () => {
    let busy = false;
    harness.hooks.reject = (phase) => (phase === 'rcpt' && !busy ? { code: 451, message: 'later' } : undefined);
    harness.hooks.delay = (phase) => (phase === 'rcpt' && busy ? 60_000 : 0);
    const worker = await harness.start({ backoff: () => 3_600_000, patience: { ...SLOW_MAIL, after: 60_000 } });
    const hour = 3_600_000;
    // More of them than are looked through at once.
    const many = 250;
    for (let count = 0; count < many; count += 1)
      await harness.add('activation', {}, { timestamp: Date.now() - 10 * hour });
    await vi.waitFor(async () => expect(await harness.queue.getDelayedCount()).toBe(many), 20_000);
    busy = true;
    const holds = await harness.add('activation');
    await vi.waitFor(async () => expect(await harness.queue.getJobState(holds.id)).toBe('active'), 10_000);
    await harness.queue.promoteJobs();

    const age = async () =>
      Number(/^latchkey_mail_queue_age_seconds (.*)$/m.exec((await worker.app.inject('/metrics')).body)?.[1]);
    await vi.waitFor(async () => expect(await harness.queue.getWaitingCount()).toBe(many), 10_000);
    expect(await age()).toBe(0);
    const payload = { ...holds.payload, to: 'fresh@recipient.test' };
    const timestamp = Date.now() - 120_000;
    await harness.queue.add('activation', payload, { ...MAIL_JOB_OPTIONS, jobId: randomUUID(), timestamp });
    expect(await age()).toBeGreaterThanOrEqual(120);
    expect(await age()).toBeLessThan(3_600);
    // So that the worker has nothing to wait for.
    await harness.catcher.stop();
  });
});
