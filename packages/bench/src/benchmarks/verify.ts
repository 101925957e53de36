/** `/v1/verify` with tokens it has seen before, against a Fastify that says hello. */
import { openSessions } from '../accounts.ts';
import { load } from '../http-load.ts';
import type { Row } from '../report.ts';
import { compare, type Sample } from '../rounds.ts';
import type { Stand } from '../stand.ts';

/** As the design's figures were measured. */
export const CONNECTIONS = 64;
const ROUNDS = 5;

/** A token of its own for each connection; the unmeasured round is the first time they are seen. */
export async function benchVerify(stand: Stand): Promise<Row[]> {
  const { api, seconds } = stand;
  const hello = await stand.hello();
  const tokens = await openSessions(stand, CONNECTIONS);
  const comparison = await compare(
    ROUNDS,
    () => sayHello(hello.url, seconds),
    () =>
      load({
        url: api.url,
        connections: CONNECTIONS,
        seconds,
        caller: (connection) => ({
          request: {
            method: 'GET',
            path: '/v1/verify',
            headers: { authorization: `Bearer ${tokens[connection % CONNECTIONS]?.access_token}` },
          },
        }),
      }),
  );
  await hello.stop();
  return [{ name: 'verify', what: 'GET /v1/verify, token seen before', against: 'Fastify hello', ...comparison }];
}

/** The baseline. */
export function sayHello(url: string, seconds: number): Promise<Sample> {
  return load({ url, connections: CONNECTIONS, seconds, caller: () => ({ request: { method: 'GET', path: '/' } }) });
}
