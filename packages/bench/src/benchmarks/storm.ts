/** What a login storm does to those who verify. */
import { availableParallelism } from 'node:os';
import { addUsers, credentials } from '../accounts.ts';
import { load } from '../http-load.ts';
import type { Row } from '../report.ts';
import { compare, type Sample } from '../rounds.ts';
import type { Stand } from '../stand.ts';
import { verifier } from './verify.ts';

const ROUNDS = 5;
/** Enough that no thread of the password pool ever waits, and below what its queue holds. */
const LOGINS_AT_ONCE = 8 * availableParallelism();
/** So many that no account gathers sessions. */
const USERS = 2000;

/** The ratio is of the p99: the storm's over the idle machine's. */
export async function benchStorm(stand: Stand): Promise<Row[]> {
  const emails = await addUsers(stand, USERS);
  const verify = await verifier(stand, 'jwt');
  let next = 0;
  const storm = (): Promise<Sample> =>
    load({
      url: stand.api.url,
      connections: LOGINS_AT_ONCE,
      // Before the verifying begins and until it has ended.
      seconds: stand.seconds * 1.5,
      caller: () => ({
        request: { method: 'POST', path: '/v1/tokens', headers: { 'content-type': 'application/json' } },
        body() {
          next += 1;
          return credentials(emails[next % USERS] ?? '');
        },
      }),
    });
  const during = async (): Promise<Sample> => {
    const [sample] = await Promise.all([verify(), storm()]);
    return sample;
  };
  const comparison = await compare(stand.rounds(ROUNDS), verify, during, ({ p99 = Number.NaN }) => p99);
  return [
    {
      name: 'storm',
      what: 'p99 of GET /v1/verify while logins keep the pool busy',
      against: 'its p99 without',
      ...comparison,
    },
  ];
}
