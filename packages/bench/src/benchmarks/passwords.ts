/** Registration and login, against threads that only hash. */
import { randomUUID } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { addUsers, credentials, PASSWORD } from '../accounts.ts';
import { load } from '../http-load.ts';
import type { HashRate } from '../programs/argon2-thread.ts';
import type { Row } from '../report.ts';
import { type Comparison, compare, type Sample } from '../rounds.ts';
import { ask, type Stand } from '../stand.ts';
import { outboxIsEmpty } from './mail.ts';

const ROUNDS = 3;
/** Enough that no thread ever waits for the next request. */
const CONNECTIONS = 8 * availableParallelism();
/** So many that no account gathers sessions. */
const USERS = 2000;

const JSON_BODY = { 'content-type': 'application/json' };
const newUser = (): string => JSON.stringify({ email: `new-${randomUUID()}@example.test`, password: PASSWORD });

const POOL = `argon2id on ${availableParallelism()} threads`;

export async function benchLogin(stand: Stand): Promise<Row[]> {
  const emails = await addUsers(stand, USERS);
  let next = 0;
  const comparison = await againstPool(stand, '/v1/tokens', () => {
    next += 1;
    return credentials(emails[next % USERS] ?? '');
  });
  return [{ name: 'login', what: 'POST /v1/tokens', against: POOL, ...comparison }];
}

/** The worker sends the mails meanwhile; what it has not sent when a measurement ends, it sends before the next. */
export async function benchRegistration(stand: Stand): Promise<Row[]> {
  await stand.worker();
  const comparison = await againstPool(stand, '/v1/users', newUser);
  return [
    { name: 'registration', what: 'POST /v1/users', against: POOL, ...comparison },
    await registrationWithoutMail(stand),
  ];
}

/** The ratio is of the p99: with worker and mail server frozen over both at work. */
async function registrationWithoutMail(stand: Stand): Promise<Row> {
  const mailSide = [await stand.worker(), await stand.sink()];
  const registrations = async (): Promise<Sample> => {
    const sample = await load({
      url: stand.api.url,
      connections: CONNECTIONS,
      seconds: stand.seconds,
      caller: () => ({ request: { method: 'POST', path: '/v1/users', headers: JSON_BODY }, body: newUser }),
    });
    for (const part of mailSide) part.thaw();
    await outboxIsEmpty(stand);
    return sample;
  };
  const down = (): Promise<Sample> => {
    for (const part of mailSide) part.freeze();
    return registrations();
  };
  const comparison = await compare(stand.rounds(ROUNDS), registrations, down, ({ p99 = Number.NaN }) => p99);
  return {
    name: 'registration_mail_down',
    what: 'p99 of POST /v1/users with the mail side down',
    against: 'its p99 with it up',
    ...comparison,
  };
}

async function againstPool(stand: Stand, path: string, body: () => string): Promise<Comparison> {
  const { api, seconds } = stand;
  const pool = await stand.argon2Pool();
  const comparison = await compare(
    stand.rounds(ROUNDS),
    () => ask<HashRate>(`${pool.url}/hashes?seconds=${seconds}`),
    async () => {
      const sample = await load({
        url: api.url,
        connections: CONNECTIONS,
        seconds,
        caller: () => ({ request: { method: 'POST', path, headers: JSON_BODY }, body }),
      });
      await outboxIsEmpty(stand);
      return sample;
    },
  );
  return comparison;
}
