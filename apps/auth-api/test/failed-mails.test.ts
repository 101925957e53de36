import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { expectProblem } from './expect-problem.ts';
import { type RefusingMail, startRefusingMail } from './refusing-mail.ts';

let all: RefusingMail;
beforeAll(async () => {
  all = await startRefusingMail();
});
afterAll(() => all.stop());

/** Long enough for the relay, which here looks for lost jobs with each pass, to have published anew what it would. */
async function relayPasses(): Promise<void> {
  const { to, id } = await all.failedMail();
  await all.queue.remove(id);
  // The one that is lost comes back.
  await vi.waitFor(async () => expect(await all.queue.getJobState(id)).toBe('failed'), { timeout: 10_000 });
  expect(await all.owedTo(to)).toBe(id);
}

describe('a failed mail', () => {
  test('is listed and shown with its recipient and the reason, and with no key', async () => {
    const { to, id } = await all.failedMail();
    const { mails } = (await all.act('GET', '/failed-mails')).json();
    const shown = mails.find((mail: { id: string }) => mail.id === id);
    expect(shown).toEqual({
      id,
      name: 'activation',
      to,
      user_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      request_id: expect.any(String),
      created_at: expect.any(String),
      failed_at: expect.any(String),
      attempts: 1,
      reason: expect.stringContaining('550'),
    });
    expect(Date.parse(shown.failed_at)).toBeGreaterThanOrEqual(Date.parse(shown.created_at));
    expect((await all.act('GET', `/failed-mails/${id}`)).json()).toEqual(shown);
  });

  test('is on one page of the list, the last to fail first', async () => {
    const ids = [(await all.failedMail()).id, (await all.failedMail()).id];
    const found: string[] = [];
    let cursor: string | null = '0';
    while (cursor !== null) {
      const page: { mails: { id: string }[]; next_cursor: string | null } = (
        await all.act('GET', `/failed-mails?limit=1&cursor=${cursor}`)
      ).json();
      found.push(...page.mails.map(({ id }) => id));
      cursor = page.next_cursor;
    }
    expect(new Set(found).size).toBe(found.length);
    expect(found.slice(0, 2)).toEqual(ids.reverse());
    expectProblem(await all.act('GET', '/failed-mails?cursor=x'), {
      status: 400,
      code: 'invalid_request',
      pointer: '/query/cursor',
    });
  });

  test('that is retried is delivered once, however often it is asked for, and each time is recorded', async () => {
    const { to, id } = await all.failedMail();
    all.refused.delete(to);
    const answers = await Promise.all([1, 2, 3].map(() => all.act('POST', `/failed-mails/${id}/retry`)));
    // One that comes after the mail was accepted hears that nobody is owed it.
    for (const { statusCode } of answers) expect(statusCode).toBeOneOf([204, 404]);
    expect(answers.map(({ statusCode }) => statusCode)).toContain(204);
    await all.settled(to);
    expect(all.inbox.mails(to)).toHaveLength(1);
    const acts = await all.acts(id);
    expect(acts.length).toBeGreaterThanOrEqual(1);
    expect(acts[0]).toMatchObject({ type: 'mail.retried', actor_id: all.admin.id, details: { mail: 'activation' } });
    expectProblem(await all.act('POST', `/failed-mails/${id}/retry`), { status: 404, code: 'mail_unknown' });
  });

  test('that is retried and refused again has had one attempt, as a new one', async () => {
    const { id } = await all.failedMail();
    const before = (await all.act('GET', `/failed-mails/${id}`)).json();
    expect((await all.act('POST', `/failed-mails/${id}/retry`)).statusCode).toBe(204);
    await vi.waitFor(
      async () => {
        const { failed_at, attempts } = (await all.act('GET', `/failed-mails/${id}`)).json();
        expect(Date.parse(failed_at)).toBeGreaterThan(Date.parse(before.failed_at));
        expect(attempts).toBe(1);
      },
      { timeout: 10_000 },
    );
  });

  test('whose job is lost is published again by a retry', async () => {
    const { to, id } = await all.failedMail();
    all.refused.delete(to);
    await all.queue.remove(id);
    expect((await all.act('POST', `/failed-mails/${id}/retry`)).statusCode).toBeOneOf([204, 404]);
    await all.settled(to);
    expect(all.inbox.mails(to)).toHaveLength(1);
  });

  test('that is owed to nobody any more is not retried but taken out', async () => {
    const { to, id } = await all.failedMail();
    all.refused.delete(to);
    await all.database.rows('DELETE FROM mail_outbox WHERE id = $1', [id]);
    expectProblem(await all.act('POST', `/failed-mails/${id}/retry`), { status: 404, code: 'mail_unknown' });
    expect(await all.queue.getJobState(id)).toBe('unknown');
    expect(all.inbox.mails(to)).toEqual([]);
  });

  test('that is discarded is recorded first, and no relay publishes it again', async () => {
    const { to, id } = await all.failedMail();
    expect((await all.act('DELETE', `/failed-mails/${id}`)).statusCode).toBe(204);
    expect(await all.owedTo(to)).toBeUndefined();
    await relayPasses();
    expect(await all.queue.getJobState(id)).toBe('unknown');
    expect(await all.acts(id)).toMatchObject([{ type: 'mail.discarded', actor_id: all.admin.id }]);
    expectProblem(await all.act('DELETE', `/failed-mails/${id}`), { status: 404, code: 'mail_unknown' });
  });

  test('whose row went in a crash before its job did is discarded all the same', async () => {
    const { id } = await all.failedMail();
    await all.database.rows('DELETE FROM mail_outbox WHERE id = $1', [id]);
    expect((await all.act('DELETE', `/failed-mails/${id}`)).statusCode).toBe(204);
    expect(await all.queue.getJobState(id)).toBe('unknown');
  });

  test('that a relay would publish again while it is discarded waits for that, and is gone', async () => {
    const { id } = await all.failedMail();
    const relay = await all.database.begin();
    await relay.query('SELECT FROM mail_outbox WHERE id = $1 FOR UPDATE', [id]);
    const discarded = all.act('DELETE', `/failed-mails/${id}`);
    await vi.waitFor(async () =>
      expect(
        await all.database.rows(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%mail_outbox%'`,
        ),
      ).not.toEqual([]),
    );
    // Its row is not its own yet, so the job must still be there: a crash now loses nothing.
    expect(await all.queue.getJobState(id)).toBe('failed');
    await relay.end('COMMIT');
    expect((await discarded).statusCode).toBe(204);
    expect(await all.queue.getJobState(id)).toBe('unknown');
  });

  test('that is being sent at this moment is not discarded, and stays owed', async () => {
    const { to, id } = await all.failedMail();
    // A worker took it after it was found in the failed set: the lock is what BullMQ goes by.
    const key = `${all.queue.qualifiedName}:${id}:lock`;
    await all.redis.set(key, 'a worker');
    expectProblem(await all.act('DELETE', `/failed-mails/${id}`), { status: 404, code: 'mail_unknown' });
    expect(await all.owedTo(to)).toBe(id);
    await all.redis.del(key);
    expect((await all.act('DELETE', `/failed-mails/${id}`)).statusCode).toBe(204);
  });

  test('is neither retried nor discarded without a record, and stays owed while Redis is away', async () => {
    const { to, id } = await all.failedMail();
    all.server.freeze();
    for (const answer of [await all.act('DELETE', `/failed-mails/${id}`), await all.act('GET', '/failed-mails')])
      expectProblem(answer, { status: 503, code: 'dependency_unavailable' });
    all.server.thaw();
    expect(await all.owedTo(to)).toBe(id);
    await all.database.rows('ALTER TABLE audit_events RENAME TO audit_events_away');
    try {
      for (const method of ['POST', 'DELETE'] as const) {
        const url = `/failed-mails/${id}${method === 'POST' ? '/retry' : ''}`;
        await vi.waitFor(async () => expect((await all.act(method, url)).statusCode).toBe(500));
      }
      expect(await all.queue.getJobState(id)).toBe('failed');
    } finally {
      await all.database.rows('ALTER TABLE audit_events_away RENAME TO audit_events');
    }
  });
});

test('a mail nobody knows is answered as that, whatever its name', async () => {
  for (const method of ['GET', 'DELETE'] as const)
    expectProblem(await all.act(method, `/failed-mails/${randomUUID()}`), { status: 404, code: 'mail_unknown' });
  expectProblem(await all.act('POST', `/failed-mails/${randomUUID()}/retry`), { status: 404, code: 'mail_unknown' });
  expectProblem(await all.act('GET', '/failed-mails/x'), {
    status: 400,
    code: 'invalid_request',
    pointer: '/params/id',
  });
});
