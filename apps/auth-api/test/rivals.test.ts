import { availableParallelism } from 'node:os';
import type { LightMyRequestResponse } from 'fastify';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { expectProblem } from './expect-problem.ts';
import { keysMailed } from './mail-probe.ts';
import { type MailedApps, startMailedApps } from './mailed-apps.ts';
import { newAddress } from './test-app.ts';

const ATTACKER = 'purple monkey dishwasher seventeen';
const VICTIM = 'granite teapot lullaby forty-two';
const THIRD = 'velvet anchor tomorrow nineteen';

let apps: MailedApps;
let side: MailedApps['side'];
let limited: MailedApps['limited'];
let unlimited: MailedApps['unlimited'];
let database: MailedApps['database'];
let activate: MailedApps['activate'];
let registered: MailedApps['registered'];
let expectOnlyLogin: MailedApps['expectOnlyLogin'];

beforeAll(async () => {
  apps = await startMailedApps();
  ({ side, limited, unlimited, database, activate, registered, expectOnlyLogin } = apps);
});
afterAll(() => apps.stop());
beforeEach(() => apps.forgetLimits());

/** Uses all keys, 20 at a time: more than the app has connections to PostgreSQL, and never so many that they wait for one too long. */
async function activateAll(keys: string[]): Promise<LightMyRequestResponse[]> {
  const outcomes: LightMyRequestResponse[] = [];
  for (let at = 0; at < keys.length; at += 20)
    outcomes.push(...(await Promise.all(keys.slice(at, at + 20).map(activate))));
  return outcomes;
}

const statuses = (responses: LightMyRequestResponse[]) =>
  Object.fromEntries(
    [...Map.groupBy(responses, ({ statusCode }) => statusCode)].map(([status, all]) => [status, all.length]),
  );

describe('many registrations of one address at once', { timeout: 120_000 }, () => {
  test('200 give as many mails as were answered 202, refuse the rest with Retry-After, and end as one account', async () => {
    const email = newAddress();
    const responses = await Promise.all(Array.from({ length: 200 }, () => limited.register(email)));
    // mailPerRecipient in src/rate-limits.ts
    expect(statuses(responses)).toEqual({ 202: 10, 429: 190 });
    for (const refused of responses.filter(({ statusCode }) => statusCode === 429))
      expectProblem(refused, { status: 429, code: 'rate_limited' });
    await database.settled();
    const keys = keysMailed(side.mail, email);
    expect(side.mail.mails(email)).toHaveLength(10);
    expect(new Set(keys).size).toBe(10);
    expect(statuses(await activateAll(keys))[200]).toBe(1);
    expect((await database.users(email)).filter(({ status }) => status !== 'pending')).toHaveLength(1);
    expect((await unlimited.login(email)).statusCode).toBe(200);
  });

  test('200 without limits are all answered 202, each with its mail, and end as one account', async () => {
    const email = newAddress();
    // As many as the password pool holds (QUEUE_PER_THREAD in src/domain/passwords.ts); on two cores and more it holds 200.
    const count = Math.min(200, availableParallelism() * 128);
    const responses = await Promise.all(Array.from({ length: count }, () => unlimited.register(email)));
    expect(statuses(responses)).toEqual({ 202: count });
    await database.settled(60_000);
    const keys = keysMailed(side.mail, email);
    expect(new Set(keys).size).toBe(count);
    const outcomes = statuses(await activateAll(keys));
    expect(outcomes[200]).toBe(1);
    expect(Object.keys(outcomes).filter((status) => Number(status) >= 500)).toEqual([]);
    expect((await database.users(email)).filter(({ status }) => status !== 'pending')).toHaveLength(1);
  });
});

describe('an attacker and a victim register one address', () => {
  const orders = [
    [ATTACKER, VICTIM],
    [VICTIM, ATTACKER],
  ] as const;

  test.each(orders.flatMap(([first, second]) => [0, 1].map((used) => ({ first, second, used }))))(
    'in the order "$first", "$second": key $used turns on the password it was registered with and no other',
    async ({ first, second, used }) => {
      const email = newAddress();
      const registrations = [
        { password: first, key: await registered(email, first) },
        { password: second, key: await registered(email.toUpperCase(), second) },
      ];
      const [winner] = registrations.splice(used, 1);
      const [loser] = registrations;
      expect((await unlimited.login(email, second)).json().code).toBe('account_not_activated');
      expect((await activate(winner?.key ?? '')).statusCode).toBe(200);
      expect([404, 410]).toContain((await activate(loser?.key ?? '')).statusCode);
      await expectOnlyLogin(email, winner?.password ?? '', [loser?.password ?? '']);
    },
  );

  test.each(orders)(
    'in the order "%s", "%s": a link asked for again is neither\'s, and each key still turns on its own password',
    async (first, second) => {
      const email = newAddress();
      const firstKey = await registered(email, first);
      const secondKey = await registered(email, second);
      expect((await unlimited.post('/v1/activations', { email })).statusCode).toBe(202);
      const advice = await side.mail.waitFor(email, { count: 3 });
      expect(advice.subject).toBe('Please register again at auth.example.test');
      expect(advice.raw).not.toContain('/activate/');
      expect((await unlimited.get(`/v1/activations/${secondKey}`)).statusCode).toBe(200);
      expect((await activate(firstKey)).statusCode).toBe(200);
      expect([404, 410]).toContain((await activate(secondKey)).statusCode);
      await expectOnlyLogin(email, first, [second]);
    },
  );

  test('a link asked for between the two belongs to the first, and stays good', async () => {
    const email = newAddress();
    const oldKey = await registered(email, VICTIM);
    expect((await unlimited.post('/v1/activations', { email })).statusCode).toBe(202);
    const victimKey = await side.activationKey(email, 2);
    await registered(email, ATTACKER);
    expectProblem(await activate(oldKey), { status: 404, code: 'activation_key_unknown' });
    expect((await activate(victimKey)).statusCode).toBe(200);
    await expectOnlyLogin(email, VICTIM, [ATTACKER]);
  });

  test('both keys used at the same moment, in many rounds, make one account, the one of the key that won', {
    timeout: 120_000,
  }, async () => {
    const emails = Array.from({ length: 30 }, () => newAddress('race'));
    const attackers = await Promise.all(emails.map((email) => registered(email, ATTACKER)));
    const victims = await Promise.all(emails.map((email) => registered(email, VICTIM)));
    const useBoth = async (email: string, round: number) => {
      const [attacker = '', victim = ''] = [attackers[round], victims[round]];
      const outcomes = await Promise.all([
        activate(attacker),
        activate(victim),
        // What else may happen to the same rows meanwhile.
        ...(round % 2 === 0 ? [activate(attacker), activate(victim)] : []),
        ...(round % 3 === 0 ? [unlimited.post('/v1/activations', { email })] : []),
        ...(round % 3 === 1 ? [unlimited.post(`/v1/activations/${victim}/renewal`)] : []),
      ]);
      for (const { statusCode } of outcomes) expect([200, 202, 404, 410]).toContain(statusCode);
    };
    for (const [round, email] of emails.entries()) await useBoth(email, round);
    await database.settled();
    for (const [round, email] of emails.entries()) {
      // A resend or a renewal may have replaced a key before it was used: then its successor decides.
      for (const { statusCode } of await activateAll(keysMailed(side.mail, email)))
        expect(statusCode).toBeLessThan(500);
      const users = await database.users(email);
      expect(
        users.filter(({ status }) => status !== 'pending'),
        `round ${round}`,
      ).toHaveLength(1);
      const attackerWon = (await unlimited.login(email, ATTACKER)).statusCode === 200;
      await expectOnlyLogin(email, attackerWon ? ATTACKER : VICTIM, [attackerWon ? VICTIM : ATTACKER]);
    }
    expect(unlimited.logs.filter((line) => line.includes('request failed'))).toEqual([]);
  });

  test('the same moment without bystanders: one 200, and its password is the one that logs in', async () => {
    for (let round = 0; round < 20; round += 1) {
      const email = newAddress('duel');
      const keys = [await registered(email, ATTACKER), await registered(email, VICTIM)];
      const outcomes = await Promise.all(keys.map(activate));
      expect(outcomes.map(({ statusCode }) => statusCode === 200).sort()).toEqual([false, true]);
      const attackerWon = outcomes[0]?.statusCode === 200;
      await expectOnlyLogin(email, attackerWon ? ATTACKER : VICTIM, [attackerWon ? VICTIM : ATTACKER]);
    }
  });

  test('a registration that commits while a rival is being activated never becomes a second account', async () => {
    const email = newAddress();
    await registered(email, VICTIM);
    const [victim] = await database.users(email);
    // The activation of the victim, stopped between its UPDATE and its commit.
    const activation = await database.begin();
    await activation.query(`UPDATE users SET status = 'active', activated_at = now() WHERE id = $1`, [victim?.id]);
    const rivalKey = await registered(email, THIRD);
    // Both wait for it, and lose.
    const late = [activate(rivalKey), activate(rivalKey)];
    await vi.waitFor(async () => {
      const waiting = await database.rows(
        `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
      );
      expect(waiting).toHaveLength(2);
    });
    await activation.end('COMMIT');
    for (const response of await Promise.all(late))
      expectProblem(response, { status: 410, code: 'activation_key_used' });
    expectProblem(await activate(rivalKey), { status: 410, code: 'activation_key_used' });
    // Nor does anything bring it to life again.
    expectProblem(await unlimited.post(`/v1/activations/${rivalKey}/renewal`), {
      status: 410,
      code: 'activation_key_used',
    });
    expect((await unlimited.post('/v1/activations', { email })).statusCode).toBe(202);
    await database.settled();
    expect(side.mail.mails(email)).toHaveLength(2);
    await expectOnlyLogin(email, VICTIM, [THIRD]);
  });

  test('a registration of an address at the very moment it is activated makes no second account', async () => {
    const emails = Array.from({ length: 20 }, () => newAddress('meanwhile'));
    const keys = await Promise.all(emails.map((email) => registered(email, VICTIM)));
    await Promise.all(
      emails.flatMap((email, round) => [unlimited.register(email, THIRD), activate(keys[round] ?? '')]),
    );
    await database.settled();
    for (const email of emails) {
      const mails = side.mail.mails(email).length;
      // A link that was not sent yet when it died is not sent at all (superseded-mails.test.ts): then it was of a registration that lost.
      if (mails === 1) expect(await database.users(email)).toHaveLength(2);
      else expect(mails).toBe(2);
      for (const key of keysMailed(side.mail, email)) expect([404, 410]).toContain((await activate(key)).statusCode);
      await expectOnlyLogin(email, VICTIM, [THIRD]);
    }
  });
});

test('with the account go the registrations of its address that lost to it, and their links', async () => {
  const email = newAddress();
  const won = await registered(email, VICTIM);
  const lost = await registered(email, ATTACKER);
  expect((await activate(won)).statusCode).toBe(200);
  const other = await registered(newAddress(), THIRD);
  const { access_token: token } = (await unlimited.login(email, VICTIM)).json();
  const gone = await unlimited.call(
    'DELETE',
    '/v1/me',
    { current_password: VICTIM },
    { authorization: `Bearer ${token}` },
  );
  expect(gone.statusCode).toBe(204);
  expect(await database.users(email)).toEqual([]);
  await database.settled();
  expect((await unlimited.dumpDatabase()).filter((row) => row.includes(email))).toEqual([]);
  expectProblem(await unlimited.get(`/v1/activations/${lost}`), { status: 404, code: 'activation_key_unknown' });
  expectProblem(await unlimited.login(email, ATTACKER), { status: 401, code: 'invalid_credentials' });
  expect((await activate(other)).statusCode).toBe(200);
});
