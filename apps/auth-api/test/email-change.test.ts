import { hash } from 'node:crypto';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { activeUser, logIn } from './accounts.ts';
import { expectProblem } from './expect-problem.ts';
import { newAddress, PASSWORD } from './test-app.ts';
import { forgetLimits, startTwoApps, type TwoApps } from './two-apps.ts';

let apps: TwoApps;
let side: TwoApps['side'];
let api: TwoApps['api'];
let second: TwoApps['second'];
let database: TwoApps['database'];
let redis: TwoApps['redis'];

beforeAll(async () => {
  apps = await startTwoApps();
  ({ side, api, second, database, redis } = apps);
});
afterAll(() => apps.stop());
beforeEach(() => forgetLimits(apps.redis));

const UNKNOWN = { status: 404, code: 'email_change_key_unknown' };
const EXPIRED = { status: 410, code: 'email_change_key_expired' };
const USED = { status: 410, code: 'email_change_key_used' };

const askFor = (token: string, newEmail: string, current = PASSWORD) =>
  api.call(
    'PUT',
    '/v1/me/email',
    { current_password: current, new_email: newEmail },
    { authorization: `Bearer ${token}` },
  );
const confirm = (key: string, by = api) => by.post(`/v1/email-changes/${key}`);
const me = async (token: string) => (await api.get('/v1/me', token)).json();

/** The key of the newest link to confirm an address with, once `count` of them have come. */
async function changeKey(email: string, count = 1): Promise<string> {
  return vi.waitFor(
    () => {
      const keys = side.mail
        .mails(email)
        .map(({ text }) => /\/change-email\/([A-Za-z0-9]{32})/.exec(text)?.[1])
        .filter((key) => key !== undefined);
      expect(keys.length).toBeGreaterThanOrEqual(count);
      return String(keys.at(-1));
    },
    { timeout: 10_000 },
  );
}

/** A user who is logged in and asked for another address. */
async function asked() {
  const email = await activeUser(api);
  const { access_token: token } = await logIn(api, email);
  const newEmail = newAddress('New');
  const response = await askFor(token, newEmail);
  expect([response.statusCode, response.json()]).toEqual([202, { status: 'confirmation_required' }]);
  return { email, newEmail, token, key: await changeKey(newEmail) };
}

const subjects = (to: string) => side.mail.mails(to).map(({ subject }) => subject);

describe('another address', () => {
  test('is the account’s once its mailbox confirms: it logs in, the former one does not, sessions stay', async () => {
    const { email, newEmail, token, key } = await asked();
    expect((await me(token)).email).toBe(email);
    expectProblem(await api.post(`/v1/email-changes/${key}`, { unknown: 'field' }), {
      status: 400,
      code: 'invalid_request',
    });
    const response = await confirm(key);
    expect([response.statusCode, response.json()]).toEqual([
      200,
      { user: { id: (await me(token)).id, email: newEmail } },
    ]);
    expect((await me(token)).email).toBe(newEmail);
    expect((await api.login(newEmail.toLowerCase())).statusCode).toBe(200);
    expect((await api.login(email)).statusCode).toBe(401);
    const events = await database.rows<{ type: string; details: object }>(
      'SELECT type, details FROM audit_events JOIN users ON users.id = user_id WHERE email = $1',
      [newEmail],
    );
    expect(events).toContainEqual({ type: 'user.email_changed', details: { email } });
  });

  test('is told to the present one, at once and when it is done, with nothing to click', async () => {
    const { email, newEmail, key } = await asked();
    const notice = await side.mail.waitFor(email, { subject: /Another address/ });
    expect(notice.text).not.toMatch(/https?:/);
    expect(notice.text).not.toContain(newEmail);
    await confirm(key);
    const done = await side.mail.waitFor(email, { subject: /was changed/ });
    expect(done.text).not.toMatch(/https?:/);
    await database.settled();
    expect(side.mail.mails(newEmail)).toHaveLength(1);
  });

  test('may be the same one in another spelling', async () => {
    const email = await activeUser(api);
    const { access_token: token } = await logIn(api, email);
    const spelling = email.toUpperCase();
    expect((await askFor(token, spelling)).statusCode).toBe(202);
    expect((await confirm(await changeKey(spelling))).statusCode).toBe(200);
    expect((await me(token)).email).toBe(spelling);
    expect((await api.login(email)).statusCode).toBe(200);
  });

  test('needs the password, and mails nothing without', async () => {
    const email = await activeUser(api);
    const { access_token: token } = await logIn(api, email);
    const newEmail = newAddress('new');
    expectProblem(await askFor(token, newEmail, 'wrong password'), {
      status: 401,
      code: 'invalid_credentials',
      pointer: '/current_password',
    });
    expectProblem(await askFor(token, 'no address'), {
      status: 400,
      code: 'invalid_request',
      pointer: '/new_email',
    });
    await database.settled();
    expect(subjects(newEmail)).toEqual([]);
    expect(subjects(email)).toEqual([]);
  });
});

describe('an address that has an account', () => {
  test('is answered alike, and only its mailbox learns', async () => {
    const taken = await activeUser(api);
    const email = await activeUser(api);
    const { access_token: token } = await logIn(api, email);
    const [first, other] = [await askFor(token, taken), await askFor(token, newAddress())];
    expect([first.statusCode, first.body]).toEqual([other.statusCode, other.body]);
    await side.mail.waitFor(taken, { subject: /You already have an account/ });
    await database.settled();
    expect(side.mail.mails(taken).filter(({ text }) => text.includes('/change-email/'))).toEqual([]);
    expect(subjects(email).filter((subject) => subject.includes('Another address'))).toHaveLength(2);
  });

  test('by the time of the confirmation is not taken from it', async () => {
    const { email, newEmail, token, key } = await asked();
    await api.register(newEmail);
    const activation = await side.activationKey(newEmail, 2);
    expect((await api.post(`/v1/activations/${activation}`)).statusCode).toBe(200);
    expectProblem(await confirm(key), UNKNOWN);
    expect((await me(token)).email).toBe(email);
    expect((await api.login(newEmail)).statusCode).toBe(200);
  });

  test('is one even when two accounts confirm it at the same moment', async () => {
    for (let round = 0; round < 5; round += 1) {
      const newEmail = newAddress('wanted');
      const keys: string[] = [];
      for (let index = 0; index < 2; index += 1) {
        const { access_token: token } = await logIn(api, await activeUser(api));
        await askFor(token, newEmail);
        keys.push(await changeKey(newEmail, index + 1));
      }
      const answers = await Promise.all(keys.map((key, index) => confirm(key, index ? api : second)));
      expect(answers.map(({ statusCode }) => statusCode).toSorted()).toEqual([200, 404]);
      expect(await database.users(newEmail)).toHaveLength(1);
    }
  });
});

describe('a key', () => {
  test('is spent once: of 40 POSTs at the same moment, to two instances, one gets 200 and the rest 410', async () => {
    const { key } = await asked();
    const answers = await Promise.all(Array.from({ length: 40 }, (_, index) => confirm(key, index % 2 ? api : second)));
    const [winner, ...others] = answers.filter(({ statusCode }) => statusCode === 200);
    expect(others).toEqual([]);
    for (const answer of answers) if (answer !== winner) expectProblem(answer, USED);
  });

  test('that has expired is 410 and changes nothing', async () => {
    const { email, token, key } = await asked();
    const name = redisKeys().emailChangeKey(hash('sha256', key, 'base64url'));
    const { renewal_ms } = JSON.parse((await redis.get(name)) ?? '');
    expect(await redis.pexpire(name, renewal_ms)).toBe(1);
    expectProblem(await confirm(key), EXPIRED);
    expect((await me(token)).email).toBe(email);
  });

  test.each([
    ['another address is asked for', (token: string) => askFor(token, newAddress('other'))],
    ['an address that is taken is asked for', async (token: string) => askFor(token, await activeUser(api))],
    [
      'the password is changed',
      (token: string) =>
        api.call(
          'PUT',
          '/v1/me/password',
          { current_password: PASSWORD, new_password: 'seven purple teapots sing' },
          { authorization: `Bearer ${token}` },
        ),
    ],
  ])('is dead once %s', async (_, act) => {
    const { email, token, key } = await asked();
    expect((await act(token)).statusCode).toBeLessThan(300);
    expectProblem(await confirm(key), UNKNOWN);
    expect((await me(token)).email).toBe(email);
  });

  test('is dead once the password was reset: whoever stole the account must not carry it off', async () => {
    const { email, key } = await asked();
    await api.post('/v1/password-resets', { email });
    const { text } = await side.mail.waitFor(email, { subject: /Choose a new password/ });
    const reset = /\/reset-password\/([A-Za-z0-9]{32})/.exec(text)?.[1] ?? '';
    const done = await api.post(`/v1/password-resets/${reset}`, { new_password: 'seven purple teapots sing' });
    expect(done.statusCode).toBe(204);
    expectProblem(await confirm(key), UNKNOWN);
  });

  test.each(['suspended_until', 'login_closed_until'])('waits while the account is closed: %s', async (column) => {
    const { email, key } = await asked();
    const close = (until: string) => database.rows(`UPDATE users SET ${column} = ${until} WHERE email = $1`, [email]);
    await close("now() + interval '1 hour'");
    expectProblem(await confirm(key), UNKNOWN);
    await close('NULL');
    expect((await confirm(key)).statusCode).toBe(200);
  });
});

test('a password reset mailed to the former address is dead once the address is another one', async () => {
  const { email, key } = await asked();
  await api.post('/v1/password-resets', { email });
  const { text } = await side.mail.waitFor(email, { subject: /Choose a new password/ });
  const reset = /\/reset-password\/([A-Za-z0-9]{32})/.exec(text)?.[1] ?? '';
  expect((await confirm(key)).statusCode).toBe(200);
  expectProblem(await api.get(`/v1/password-resets/${reset}`), { status: 404, code: 'password_reset_key_unknown' });
});
