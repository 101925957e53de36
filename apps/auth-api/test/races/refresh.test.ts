import { keysOf } from '@latchkey/dev-stack/test-redis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PASSWORD } from '../test-app.ts';
import { hashOf, type Instances, startInstances, tokensOf } from './instances.ts';

let instances: Instances;
const hash = hashOf(PASSWORD);

beforeAll(async () => {
  instances = await startInstances();
});
afterAll(() => instances.stop());

async function loggedIn() {
  const { email } = await instances.account(hash);
  return tokensOf(await instances.first.login(email, PASSWORD));
}

const instanceOf = (turn: number) => (turn % 2 === 0 ? instances.first : instances.second);

test('1000 refreshes of one token at once over two instances give one successor and no 401', async () => {
  const before = await loggedIn();
  const answers = await Promise.all(
    Array.from({ length: 1000 }, (_, turn) => instanceOf(turn).refresh(before.refresh_token)),
  );
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  const successors = new Set(answers.map((answer) => tokensOf(answer).refresh_token));
  expect(successors.size).toBe(1);
  expect(successors.has(before.refresh_token)).toBe(false);
  // Each caller may go on with the access token it got, and with the one it had.
  const access = [before.access_token, ...answers.map((answer) => tokensOf(answer).access_token)];
  const verified = await Promise.all(access.map((token, turn) => instanceOf(turn).verify(token)));
  expect(new Set(verified)).toEqual(new Set([200]));
  const [successor = ''] = successors;
  expect((await instances.second.refresh(successor)).status).toBe(200);
});

test('a refresh whose reply was lost is repeated, on either instance, and has the same successor', async () => {
  let { refresh_token: current, session } = await loggedIn();
  for (let round = 0; round < 100; round += 1) {
    // Cut from before it arrives to after it was done.
    await instanceOf(round).askAndLeave(
      'POST',
      '/v1/tokens/refresh',
      { payload: { refresh_token: current } },
      (round % 10) / 2,
    );
    const again = await Promise.all([instances.first.refresh(current), instances.second.refresh(current)]);
    const [one, two] = again.map(tokensOf);
    if (!one || !two) throw new Error('no answers');
    expect(one.refresh_token).toBe(two.refresh_token);
    expect([one.session.id, two.session.id]).toEqual([session.id, session.id]);
    expect(one.refresh_token).not.toBe(current);
    current = one.refresh_token;
  }
  const hashes = await keysOf(instances.redis, 'latchkey:sid:*');
  const mine = hashes.find((key) => key.endsWith(`:${session.id}`)) ?? '';
  // One rotation per round, however often it was asked for.
  expect(await instances.redis.hget(mine, 'counter')).toBe('100');
});

test('10 000 calls with old access tokens during a run of refreshes on both instances: no 401', async () => {
  const first = await loggedIn();
  let current = first.refresh_token;
  const access = [first.access_token];
  let left = 10_000;
  let refreshes = 0;
  const answers = new Map<number, number>();

  async function verifyOn(turn: number): Promise<void> {
    while (left > 0) {
      left -= 1;
      // From the oldest to the one before the newest.
      const token = access[left % Math.max(1, access.length - 1)] ?? '';
      const status = await instanceOf(turn).verify(token);
      answers.set(status, (answers.get(status) ?? 0) + 1);
    }
  }
  async function refreshing(): Promise<void> {
    while (left > 0) {
      const tokens = tokensOf(await instanceOf(refreshes).refresh(current));
      current = tokens.refresh_token;
      access.push(tokens.access_token);
      refreshes += 1;
    }
  }
  await Promise.all([refreshing(), ...Array.from({ length: 16 }, (_, turn) => verifyOn(turn))]);
  expect(Object.fromEntries(answers)).toEqual({ 200: 10_000 });
  expect(refreshes).toBeGreaterThan(100);
});
