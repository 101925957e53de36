import { setTimeout as wait } from 'node:timers/promises';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readJti } from '../../src/domain/token-identity.ts';
import { decoded, type TokenResponse } from '../accounts.ts';
import { addClient, basic } from '../clients.ts';
import { faketime, hashOf, type Instance, type Instances, startInstances, tokensOf } from './instances.ts';
import { createIssuer, type Issued } from './issuer.ts';

/** Seconds between the clocks of the two instances, and times it is tried in all (issue 3). */
const APART = 30;
const ROUNDS = { issue: 8800, login: 800, racingLogin: 400 };
/** Users whose rounds run at the same time: enough to keep two cores busy. */
const USERS = 8;
/** Milliseconds the other instance may take to hear of a revocation on a busy machine. */
const HEARD_WITHIN = 5000;
/** Milliseconds: a minute on two idle cores; every suite may run beside it. */
const TIMEOUT = 300_000;
const OLD = { password: 'the password before', hash: hashOf('the password before') };
const NEW = { password: 'the password after', hash: hashOf('the password after') };

const keys = redisKeys();
let instances: Instances;
let issuer: ReturnType<typeof createIssuer>;
let admin: string;

beforeAll(async () => {
  if (faketime === undefined) return;
  instances = await startInstances({ ahead: APART });
  issuer = createIssuer(instances.environment);
  const client = await addClient(instances.databaseUrl, 'admin');
  const response = await fetch(`${instances.first.base}/oauth/token`, {
    method: 'POST',
    headers: { authorization: basic(client) },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  });
  ({ access_token: admin } = (await response.json()) as { access_token: string });
});
afterAll(async () => {
  if (faketime === undefined) return;
  await issuer.close();
  await instances.stop();
});

interface Account {
  id: string;
  email: string;
}

/**
 * Half of the users live while the clock of Redis has stepped back: something of theirs was issued an hour from now. Then instants of issue
 * and cut-off follow each other by a microsecond, and whatever happens to such a user happens in the same millisecond.
 */
async function account(turn: number): Promise<Account> {
  const user = await instances.account(OLD.hash);
  const later = (Date.now() + 3_600_000) * 1000;
  if (turn % 2 === 1) await instances.redis.hset(keys.gate(user.id), 'last_issued', String(later));
  return user;
}

interface Round {
  user: Account;
  round: number;
  /** Every combination of who revokes and who opens, in turn. */
  revoker: Instance;
  opener: Instance;
  /** To find it by when it fails. */
  why: string;
}

/** Runs rounds of several users at the same time, each user's one after the other; what a round returns the next one starts with. */
async function inRounds<Held>(
  rounds: number,
  start: (user: Account) => Promise<Held>,
  run: (round: Round, held: Held) => Promise<Held>,
): Promise<void> {
  const { first, second } = instances;
  async function ofUser(turn: number): Promise<void> {
    const user = await account(turn);
    let held = await start(user);
    for (let round = 0; round < rounds / USERS; round += 1) {
      const revoker = (round & 1) === 0 ? first : second;
      const opener = (round & 2) === 0 ? first : second;
      held = await run({ user, round, revoker, opener, why: `user ${turn}, round ${round}` }, held);
    }
  }
  await Promise.all(Array.from({ length: USERS }, (_, turn) => ofUser(turn)));
}

/** A moment before, in or after something that takes about so many milliseconds. */
const aMoment = (takes: number) => wait(Math.random() * 1.5 * takes);

/** Logout everywhere by the user, or, in every third round, the operator's cut-off. @returns the cut-off, in microseconds. */
async function revokeAll(on: Instance, { id }: Account, token: string, round: number): Promise<number> {
  const { status, body } =
    round % 3 === 2
      ? await on.ask('POST', `/v1/admin/users/${id}/revocations`, { token: admin })
      : await on.ask('DELETE', '/v1/sessions', { token });
  if (status !== 204 && status !== 200) throw new Error(`revoke-all answered ${status} ${JSON.stringify(body)}`);
  return Number(await instances.redis.hget(keys.gate(id), 'cutoff'));
}

/** The instance that answered the revocation refuses at once, the other one as soon as it has heard. */
async function expectRefused(token: string, revoker: Instance, why: string): Promise<void> {
  expect(await revoker.verify(token), `${why}, by the instance that revoked`).toBe(401);
  const [other] = instances.both.filter((instance) => instance !== revoker);
  await vi.waitFor(async () => expect(await other?.verify(token), `${why}, by the other`).toBe(401), {
    timeout: HEARD_WITHIN,
    interval: 2,
  });
}

async function expectAccepted(token: string, why: string): Promise<void> {
  expect(await Promise.all(instances.both.map((instance) => instance.verify(token))), why).toEqual([200, 200]);
}

const issuedAt = ({ access_token }: TokenResponse): number =>
  readJti(String(decoded(access_token).claims.jti))?.issuedAt ?? Number.NaN;

const inSameMillisecond = (a: number, b: number): boolean => Math.floor(a / 1000) === Math.floor(b / 1000);

describe.skipIf(faketime === undefined)(`two instances whose clocks are ${APART} s apart (faketime)`, () => {
  test('really have them', async () => {
    const [first = 0, second = 0] = await Promise.all(
      instances.both.map(async ({ ask }) => Date.parse((await ask('GET', '/livez')).headers.date ?? '')),
    );
    expect(Math.abs(second - first - APART * 1000)).toBeLessThan(3000);
  });

  test(`revoke-all, and what a right password opens right after or at the same time, ${ROUNDS.issue} times`, {
    timeout: TIMEOUT,
  }, async () => {
    const seen = { sameMillisecond: 0, 'refused at the door': 0, 'let in and cut off': 0 };
    let takes = 2;

    /** A session opened anywhere around the cut-off, by a password that was right before. */
    async function race(userId: string): Promise<{ raced: Promise<Issued | undefined> }> {
      const generation = await issuer.generation(userId);
      return { raced: aMoment(takes).then(() => issuer.issue(userId, generation)) };
    }
    async function openNow(userId: string): Promise<Issued> {
      const issued = await issuer.issue(userId, await issuer.generation(userId));
      if (!issued) throw new Error('refused, though nothing is being revoked');
      return issued;
    }
    function count(fresh: Issued, raced: Issued | undefined, cutoff: number): void {
      if (inSameMillisecond(fresh.issuedAt, cutoff)) seen.sameMillisecond += 1;
      seen[raced ? 'let in and cut off' : 'refused at the door'] += 1;
    }

    await inRounds(
      ROUNDS.issue,
      ({ id }) => openNow(id),
      async ({ user, round, revoker, why }, held) => {
        const racing = await race(user.id);
        const asked = performance.now();
        const cutoff = await revokeAll(revoker, user, held.accessToken, round);
        takes = (takes + performance.now() - asked) / 2;
        const fresh = await openNow(user.id);
        expect(fresh.issuedAt, why).toBeGreaterThan(cutoff);
        const raced = await racing.raced;
        count(fresh, raced, cutoff);
        await Promise.all([
          expectAccepted(fresh.accessToken, `${why}, issued after the cut-off`),
          expectRefused(held.accessToken, revoker, `${why}, held`),
          raced && expectRefused(raced.accessToken, revoker, `${why}, authenticated before the cut-off`),
        ]);
        return fresh;
      },
    );
    // All of half of the users, but for the few that meet the turn of a millisecond; and the race was a race.
    expect(seen.sameMillisecond).toBeGreaterThan(ROUNDS.issue * 0.45);
    expect(seen['refused at the door']).toBeGreaterThan(ROUNDS.issue * 0.01);
    expect(seen['let in and cut off']).toBeGreaterThan(ROUNDS.issue * 0.01);
  });

  test(`revoke-all, then a login, ${ROUNDS.login} times: the old refused, the new accepted, by both`, {
    timeout: TIMEOUT,
  }, async () => {
    let sameMillisecond = 0;
    await inRounds(
      ROUNDS.login,
      async ({ email }) => tokensOf(await instances.first.login(email, OLD.password)),
      async ({ user, round, revoker, opener, why }, held) => {
        const cutoff = await revokeAll(revoker, user, held.access_token, round);
        const fresh = tokensOf(await opener.login(user.email, OLD.password));
        expect(issuedAt(held), why).toBeLessThanOrEqual(cutoff);
        expect(issuedAt(fresh), why).toBeGreaterThan(cutoff);
        if (inSameMillisecond(issuedAt(fresh), cutoff)) sameMillisecond += 1;
        await Promise.all([
          expectAccepted(fresh.access_token, why),
          expectRefused(held.access_token, revoker, why),
          revoker.refresh(held.refresh_token).then(({ body }) => expect(body.code, why).toBe('session_revoked')),
        ]);
        return fresh;
      },
    );
    expect(sameMillisecond).toBeGreaterThan(ROUNDS.login * 0.45);
  });

  test(`a login racing revoke-all, ${ROUNDS.racingLogin} times: nothing authenticated before the cut-off survives it`, {
    timeout: TIMEOUT,
  }, async () => {
    const racers = { refused: 0, 'let in and cut off': 0 };
    let takes = 30;
    await inRounds(
      ROUNDS.racingLogin,
      async ({ email }) => tokensOf(await instances.first.login(email, OLD.password)),
      async ({ user, round, revoker, opener, why }, held) => {
        const [before, after] = round % 2 === 0 ? [OLD, NEW] : [NEW, OLD];
        // Begun with the password that is right then, and so long before that the cut-off falls into every part of them.
        const racing = [opener, revoker].map((instance) => instance.login(user.email, before.password));
        await aMoment(takes);
        // The password is another one from here on: who gets in with the former one was authenticated before the cut-off.
        await instances.database.rows('UPDATE users SET password_hash = $2 WHERE id = $1', [user.id, after.hash]);
        await revokeAll(revoker, user, held.access_token, round);

        const began = performance.now();
        const fresh = tokensOf(await opener.login(user.email, after.password));
        takes = (takes + performance.now() - began) / 2;
        const raced = await Promise.all(racing);
        const letIn = raced.filter(({ status }) => status !== 401).map(tokensOf);
        racers['let in and cut off'] += letIn.length;
        racers.refused += raced.length - letIn.length;
        await Promise.all([
          expectRefused(held.access_token, revoker, `${why}, held`),
          expectAccepted(fresh.access_token, `${why}, logged in after the cut-off`),
          ...letIn.map((tokens) =>
            expectRefused(tokens.access_token, revoker, `${why}, authenticated before the cut-off`),
          ),
        ]);
        return fresh;
      },
    );
    // The race was run: each way of ending it was seen.
    for (const [way, count] of Object.entries(racers)) expect(count, way).toBeGreaterThan(10);
    expect(instances.errors()).toEqual([]);
  });
});
