import { startMailCatcher } from '@latchkey/dev-stack/mail-catcher';
import { keysOf } from '@latchkey/dev-stack/test-redis';
import { MAIL_JOB_OPTIONS } from '@latchkey/shared/mail-jobs';
import { MAIL_LEDGER_TTL } from '@latchkey/shared/redis-keys';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createComposer } from '../src/composer.ts';
import { createDelivery, type DeliveryParts } from '../src/deliver.ts';
import { createMailKeys } from '../src/mail-keys.ts';
import { createMails } from '../src/mails.ts';
import { pacing } from '../src/pacing.ts';
import { createSendLedger } from '../src/send-ledger.ts';
import { createMailTransport } from '../src/smtp.ts';
import { createHarness, type Harness, keyIn, PUBLIC_URL } from './harness.ts';

let harness: Harness;
beforeEach(async () => {
  harness = await createHarness({ env: { WORKER_CONCURRENCY: '4' } });
});
afterEach(() => harness.close());

/** The log's last word on a mail. */
function outcomeOf(id: string): Record<string, unknown> | undefined {
  return harness.logLines
    .map((line): Record<string, unknown> => JSON.parse(line))
    .findLast((line) => line.mail_id === id && line.outcome !== undefined);
}

/** The parts of a delivery as the worker puts them together, to be run by hand. */
function parts(): DeliveryParts {
  return {
    ledger: createSendLedger(harness.redis, harness.keys, pacing(500)),
    mailKeys: createMailKeys(harness.redis, harness.keys, { activates: 60, renews: 60 }),
    compose: createComposer(createMails(PUBLIC_URL, 60), 'no-reply@latchkey.test', PUBLIC_URL),
    transport: createMailTransport(harness.catcher.smtpUrl),
  };
}

const TWICE = crypto.randomUUID();
const LATE = crypto.randomUUID();
const job = (id: string, to: string) => ({
  id,
  name: 'activation',
  payload: { v: 1, to, locale: 'en', request_id: 'r', user_id: crypto.randomUUID(), attempt: 1 },
  signal: undefined,
});

it('begun while another worker has it wait for its turn is noted as begun', async () => {
  const { ledger } = parts();
  const id = crypto.randomUUID();
  await harness.redis.set(harness.keys.mailLedger(id), `reserved:${Date.now() + 60_000}`);
  expect(await ledger.noteSending(id)).toBeUndefined();
  expect(await ledger.noteSending(id)).toBe('sending');
});

describe('a mail accepted by the server', () => {
  it('is reported to auth-api and noted in the ledger for two weeks', async () => {
    await harness.start();
    const { id, to } = await harness.add('activation');
    await harness.settled(id);
    expect(harness.catcher.mails(to)).toHaveLength(1);
    expect(await harness.redis.get(harness.keys.mailLedger(id))).toBe('accepted');
    expect(await harness.redis.ttl(harness.keys.mailLedger(id))).toBeGreaterThan(MAIL_LEDGER_TTL - 60);
    expect(outcomeOf(id)).toMatchObject({
      outcome: 'accepted',
      attempt: 1,
      job: 'activation',
      request_id: 'request-1',
    });
  });

  it('is not sent again when its job comes again, only reported again', async () => {
    await harness.start();
    const { id, to, payload } = await harness.add('activation');
    await harness.settled(id);
    await harness.redis.srem(harness.keys.mailAccepted, id);
    await harness.queue.add('activation', payload, { ...MAIL_JOB_OPTIONS, jobId: id });
    await harness.settled(id);
    expect(outcomeOf(id)).toMatchObject({ outcome: 'already_accepted' });
    expect(harness.catcher.mails(to)).toHaveLength(1);
  });

  it('whose acceptance was lost is sent again under the same Message-ID, with a link of its own', async () => {
    await harness.start();
    const { id, to, payload } = await harness.add('activation');
    await harness.settled(id);
    await harness.redis.set(harness.keys.mailLedger(id), 'sending');
    await harness.queue.add('activation', payload, { ...MAIL_JOB_OPTIONS, jobId: id });
    await harness.catcher.waitFor(to, { count: 2 });
    const [first, second] = harness.catcher.mails(to);
    expect(second?.headers.get('message-id')).toBe(first?.headers.get('message-id'));
    expect(keyIn(second?.text ?? '')).not.toBe(keyIn(first?.text ?? ''));
    await vi.waitFor(() => expect(outcomeOf(id)).toMatchObject({ outcome: 'accepted', tried_before: true }));
  });

  it('is sent once when the same job is taken twice at the same time', async () => {
    harness.hooks.delay = (phase) => (phase === 'data' ? 200 : 0);
    const deliver = createDelivery(parts());
    const outcomes = await Promise.all([
      deliver(job(TWICE, 'twice@recipient.test')),
      deliver(job(TWICE, 'twice@recipient.test')),
    ]);
    expect(outcomes.map(({ outcome }) => outcome)).toEqual(['accepted', 'accepted']);
    expect(harness.catcher.mails()).toHaveLength(1);
  });

  it('is not sent again by a worker that was held up between its look into the ledger and SMTP', async () => {
    const real = parts();
    const deliver = createDelivery({
      ...real,
      mailKeys: {
        ...real.mailKeys,
        async mint(...asked) {
          await real.ledger.recordAccepted(LATE);
          return real.mailKeys.mint(...asked);
        },
      },
    });
    expect(await deliver(job(LATE, 'late@recipient.test'))).toEqual({ outcome: 'already_accepted' });
    expect(harness.catcher.mails()).toHaveLength(0);
    expect(await harness.redis.get(harness.keys.mailLedger(LATE))).toBe('accepted');
    expect(await keysOf(harness.redis, `${harness.namespace}:activation-key:*`)).toEqual([]);
  });
});

describe('a mail the server does not take now', () => {
  it.each(['mail', 'rcpt', 'data'] as const)('(4xx at %s) is tried again and arrives once', async (where) => {
    let refusals = 2;
    harness.hooks.reject = (phase) => (phase === where && refusals-- > 0 ? { code: 451, message: 'later' } : undefined);
    await harness.start();
    const { id, to } = await harness.add('activation');
    await harness.settled(id);
    expect(harness.catcher.mails(to)).toHaveLength(1);
    expect(outcomeOf(id)).toMatchObject({ outcome: 'accepted', attempt: 3 });
  });

  it('(5xx before it has heard of the mail) is tried again: an operator can mend that', async () => {
    let refusals = 1;
    harness.hooks.reject = (phase) =>
      phase === 'connect' && refusals-- > 0 ? { code: 554, message: 'no' } : undefined;
    await harness.start();
    const { id, to } = await harness.add('activation');
    await harness.settled(id);
    expect(harness.catcher.mails(to)).toHaveLength(1);
    // No try is used up: the mail was not to blame.
    expect(outcomeOf(id)).toMatchObject({ outcome: 'accepted', attempt: 1 });
  });

  it.each([530, 503])('(%i: the session is wrong, not the mail) is tried again', async (code) => {
    let refusals = 1;
    harness.hooks.reject = (phase) => (phase === 'mail' && refusals-- > 0 ? { code, message: 'not so' } : undefined);
    await harness.start();
    const { id } = await harness.add('activation');
    await harness.settled(id);
    expect(outcomeOf(id)).toMatchObject({ outcome: 'accepted', attempt: 2 });
  });

  it('(no answer in time) is tried again and arrives once', async () => {
    harness.variables.SMTP_URL += '?socketTimeout=1500';
    let slow = 1;
    harness.hooks.delay = (phase) => (phase === 'rcpt' && slow-- > 0 ? 5_000 : 0);
    await harness.start();
    const { id, to } = await harness.add('account_exists');
    await harness.settled(id);
    expect(harness.catcher.mails(to)).toHaveLength(1);
    expect(outcomeOf(id)).toMatchObject({ outcome: 'accepted', attempt: 2 });
  });

  it('(no server there) waits until there is one', async () => {
    const { smtpPort, smtpUrl, stop } = await startMailCatcher();
    await stop();
    harness.variables.SMTP_URL = smtpUrl;
    await harness.start();
    const { id, to } = await harness.add('activation');
    await vi.waitFor(() => expect(outcomeOf(id)).toMatchObject({ outcome: 'retried', phase: 'smtp' }), 10_000);
    const back = await startMailCatcher({ smtpPort });
    try {
      await harness.settled(id);
      expect(back.mails(to)).toHaveLength(1);
    } finally {
      await back.stop();
    }
  });

  it('waits as the contract says: 5 s after the first try, more or less a fifth', async () => {
    harness.hooks.reject = (phase) => (phase === 'rcpt' ? { code: 451, message: 'later' } : undefined);
    await harness.start({});
    const { id } = await harness.add('activation');
    await vi.waitFor(async () => expect(await harness.queue.getJobState(id)).toBe('delayed'), 10_000);
    const delay = (await harness.queue.getJob(id))?.delay ?? 0;
    expect(delay).toBeGreaterThanOrEqual(4_000);
    expect(delay).toBeLessThanOrEqual(6_000);
  });

  it('is given up after its last attempt, and then waits in the failed set', async () => {
    harness.hooks.reject = (phase) => (phase === 'data' ? { code: 451, message: 'later' } : undefined);
    await harness.start();
    const payload = job('', 'never@recipient.test').payload;
    const givenUp = crypto.randomUUID();
    await harness.queue.add('activation', payload, { ...MAIL_JOB_OPTIONS, attempts: 2, jobId: givenUp });
    const failed = await harness.failed(givenUp);
    expect(failed.attemptsMade).toBe(2);
    await vi.waitFor(() => expect(outcomeOf(givenUp)).toMatchObject({ outcome: 'given_up', attempt: 2 }));
  });
});

describe('a mail the server refuses for good', () => {
  it.each(['mail', 'rcpt', 'data'] as const)('(5xx at %s) is in the failed set at once', async (where) => {
    harness.hooks.reject = (phase) => (phase === where ? { code: 550, message: '5.1.1 no such user' } : undefined);
    await harness.start();
    const { id, to } = await harness.add('activation');
    const failed = await harness.failed(id);
    expect(failed.attemptsMade).toBe(1);
    expect(failed.failedReason).toContain('smtp: 550 5.1.1 no such user');
    expect(outcomeOf(id)).toMatchObject({
      outcome: 'rejected',
      phase: 'smtp',
      smtp_code: 550,
      to: '***@recipient.test',
    });
    expect(harness.catcher.mails(to)).toHaveLength(0);
    expect(await harness.redis.sismember(harness.keys.mailAccepted, id)).toBe(0);
  });

  it('does not hold up the others', async () => {
    let refusals = 3;
    harness.hooks.reject = (phase) => (phase === 'rcpt' && refusals-- > 0 ? { code: 550, message: 'no' } : undefined);
    await harness.start();
    await Promise.all(Array.from({ length: 12 }, () => harness.add('activation')));
    await vi.waitFor(() => expect(harness.catcher.mails()).toHaveLength(9), 10_000);
    await vi.waitFor(async () => expect(await harness.queue.getFailedCount()).toBe(3), 10_000);
  });
});

describe('a job that breaks the contract', () => {
  it.each([
    ['no recipient', 'activation', { to: undefined }, 'properties to'],
    ['a version that is none', 'activation', { v: 0 }, '/v'],
    ['a user id that is none', 'activation', { user_id: '42' }, '/user_id'],
    ['no attempt', 'activation', { attempt: undefined }, 'attempt'],
    ['two recipients', 'activation', { to: 'one@recipient.test, two@recipient.test' }, '/to'],
    ['a header in the address', 'activation', { to: 'one@recipient.test\r\nBcc: two@recipient.test' }, '/to'],
    ['a command in the address', 'activation', { to: 'one@recipient.test>\r\nRCPT TO:<two@recipient.test' }, '/to'],
  ])(
    '(%s) is in the failed set at once, with no mail and no key, and the others go on',
    async (_what, name, change, reason) => {
      await harness.start();
      const broken = await harness.add(name, change);
      const failed = await harness.failed(broken.id);
      expect(failed.attemptsMade).toBe(1);
      expect(failed.failedReason).toContain(reason);
      expect(failed.failedReason).not.toContain('recipient.test');
      expect(await keysOf(harness.redis, `${harness.namespace}:activation-key:*`)).toEqual([]);

      const sound = await harness.add('activation');
      await harness.settled(sound.id);
      expect(harness.catcher.mails().map(({ to }) => to)).toEqual([[sound.to]]);
    },
  );

  it.each([
    ['a name', 'newsletter', {}, 'unknown job name "newsletter"'],
    ['a version', 'activation', { v: 2 }, '/v'],
  ])(
    '(%s of a newer release) waits for a worker that knows it, and the others go on',
    async (_what, name, change, reason) => {
      await harness.start({});
      const newer = await harness.add(name, change);
      const sound = await harness.add('activation');
      await harness.settled(sound.id);
      await vi.waitFor(async () => expect(await harness.queue.getJobState(newer.id)).toBe('delayed'), 10_000);
      expect(outcomeOf(newer.id)).toMatchObject({
        outcome: 'retried',
        attempt: 1,
        phase: 'parse',
        reason: expect.stringContaining(reason),
      });
      expect(harness.catcher.mails().map(({ to }) => to)).toEqual([[sound.to]]);
    },
  );

  it('(an id that is no mail id) gets into no header', async () => {
    await harness.start();
    const payload = job('', 'one@recipient.test').payload;
    const id = 'x>\r\nBcc: <two@recipient.test';
    await harness.queue.add('activation', payload, { ...MAIL_JOB_OPTIONS, jobId: id.replaceAll(':', '') });
    await vi.waitFor(async () => expect(await harness.queue.getFailedCount()).toBe(1), 10_000);
    expect(harness.catcher.mails()).toHaveLength(0);
  });

  it('by having more than this release knows does not break it', async () => {
    await harness.start();
    const { id, to } = await harness.add('activation', {
      priority: 'high',
      v2: { theme: 'dark' },
      traceparent: '00-aa-bb-01',
    });
    await harness.settled(id);
    expect(harness.catcher.mails(to)).toHaveLength(1);
    expect(outcomeOf(id)).toMatchObject({ traceparent: '00-aa-bb-01' });
  });
});
