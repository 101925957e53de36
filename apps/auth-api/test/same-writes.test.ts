/** Who asks by address learns nothing from the time it takes: whoever is meant, one transaction is written and flushed before the answer. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { logIn } from './accounts.ts';
import { type DatabaseProbe, databaseProbe } from './mail-probe.ts';
import { newAddress, PASSWORD, startTestApp, type TestApp } from './test-app.ts';

let api: TestApp;
let database: DatabaseProbe;

/** Milliseconds a commit takes that has written what is looked at: more than anything else of a request, a hash included. */
const COMMIT = 700;

/** A disk that is slow to flush, for what was written to a table. One that writes nothing there has nothing to flush. */
async function slowCommits(table: 'audit_events' | 'mail_outbox'): Promise<void> {
  await database.rows(`CREATE OR REPLACE FUNCTION flush_slowly() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      -- Once in a transaction, as a flush is.
      IF coalesce(current_setting('test.flushed', true), '') <> txid_current()::text THEN
        PERFORM pg_sleep(${COMMIT / 1000});
        PERFORM set_config('test.flushed', txid_current()::text, true);
      END IF;
      RETURN NULL;
    END $$`);
  await database.rows(`CREATE CONSTRAINT TRIGGER flush_slowly AFTER INSERT ON ${table}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION flush_slowly()`);
}

/** The milliseconds of a request that is answered with 202. */
async function timeOf(request: () => ReturnType<TestApp['call']>): Promise<number> {
  const asked = performance.now();
  const { statusCode } = await request();
  expect(statusCode).toBe(202);
  return performance.now() - asked;
}

let addresses: Record<'unknown' | 'pending' | 'several' | 'taken', string>;

beforeAll(async () => {
  api = await startTestApp();
  database = databaseProbe(api.databaseUrl);
  addresses = { unknown: newAddress(), pending: newAddress(), several: newAddress(), taken: newAddress() };
  const { pending, several, taken } = addresses;
  for (const email of [pending, several, several, taken]) await api.register(email);
  await database.rows(`UPDATE users SET status = 'active' WHERE email = $1`, [taken]);
});
afterAll(async () => {
  await database.close();
  await api.close();
});

const KINDS = ['unknown', 'pending', 'several', 'taken'] as const;

describe('asked for an address that is new, waits, waits twice or has an account', () => {
  test.each([
    ['a password reset', '/v1/password-resets', 'user.password_reset_requested'],
    ['another activation link', '/v1/activations', 'user.activation_renewed'],
  ])('%s is recorded before the answer, without the address where it is nobody', async (_name, url, type) => {
    await slowCommits('audit_events');
    try {
      for (const kind of KINDS) {
        const email = addresses[kind];
        const ms = await timeOf(() => api.post(url, { email }));
        expect(ms, kind).toBeGreaterThanOrEqual(COMMIT);
        expect(ms, kind).toBeLessThan(2 * COMMIT);
      }
    } finally {
      await database.rows('DROP TRIGGER flush_slowly ON audit_events');
    }
    const events = await database.rows<{ user_id: string | null; event: string }>(
      'SELECT user_id, e::text AS event FROM audit_events e WHERE type = $1',
      [type],
    );
    expect(events).toHaveLength(KINDS.length);
    expect(events.filter(({ user_id }) => user_id === null)).toHaveLength(KINDS.length - 1);
    for (const { event } of events) expect(event).not.toContain('@');
  });

  test('a registration owes one mail before the answer', async () => {
    await slowCommits('mail_outbox');
    try {
      for (const kind of KINDS) {
        const ms = await timeOf(() => api.register(addresses[kind]));
        expect(ms, kind).toBeGreaterThanOrEqual(COMMIT);
      }
    } finally {
      await database.rows('DROP TRIGGER flush_slowly ON mail_outbox');
    }
  });

  test('a change to it owes two mails and is recorded', async () => {
    const email = newAddress();
    await api.register(email);
    const [user] = await database.rows<{ id: string }>(
      `UPDATE users SET status = 'active' WHERE email = $1 RETURNING id::text`,
      [email],
    );
    const { access_token: token } = await logIn(api, email);
    const mails = async () =>
      (await database.rows<{ id: string }>('SELECT id::text FROM mail_outbox')).map(({ id }) => id);
    const events = async () =>
      (
        await database.rows(`SELECT 1 FROM audit_events WHERE user_id = $1 AND type = 'user.email_change_requested'`, [
          user?.id,
        ])
      ).length;
    for (const new_email of [newAddress(), addresses.taken]) {
      const before = { mails: new Set(await mails()), events: await events() };
      const asked = api.call(
        'PUT',
        '/v1/me/email',
        { current_password: PASSWORD, new_email },
        { authorization: `Bearer ${token}` },
      );
      expect((await asked).statusCode).toBe(202);
      // The mail of the change asked for before may be withdrawn by this one.
      expect((await mails()).filter((id) => !before.mails.has(id))).toHaveLength(2);
      expect(await events()).toBe(before.events + 1);
    }
  });
});
