/** `POST /v1/tokens/refresh`, against a Fastify that says hello. */
import { openSessions, type Session } from '../accounts.ts';
import { CONNECTIONS } from '../hello.ts';
import { load } from '../http-load.ts';
import type { Row } from '../report.ts';
import type { Stand } from '../stand.ts';
import { againstHello, WARM_UPS } from './verify.ts';

const ROUNDS = 3;
/**
 * Sessions refreshed in turn, per second of a measurement. With a few only, each would be refreshed hundreds of times within
 * REFRESH_GRACE, which no client does and which makes a session's record long.
 */
const SESSIONS_PER_SECOND = 700;

/** Each refresh spends the token the one before it gave. */
export async function benchRefresh(stand: Stand): Promise<Row[]> {
  const { api, seconds } = stand;
  // Taken from the front, given back at the end; what is under way when a measurement ends, a warm-up too, is lost.
  const lost = CONNECTIONS * (stand.rounds(ROUNDS) + WARM_UPS);
  const tokens = (await openSessions(stand, lost + Math.ceil(SESSIONS_PER_SECOND * seconds))).map(
    ({ refresh_token: token }) => token,
  );
  const refresher = {
    request: { method: 'POST', path: '/v1/tokens/refresh', headers: { 'content-type': 'application/json' } },
    body: () => JSON.stringify({ refresh_token: tokens.shift() }),
    answered: (body: string) => tokens.push((JSON.parse(body) as Session).refresh_token),
  } as const;
  const comparison = await againstHello(stand, ROUNDS, () =>
    load({ url: api.url, connections: CONNECTIONS, seconds, caller: () => refresher }),
  );
  return [{ name: 'refresh', what: 'POST /v1/tokens/refresh', ...comparison }];
}
