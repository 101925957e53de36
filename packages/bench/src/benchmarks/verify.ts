/** `/v1/verify` and introspection, against a Fastify that says hello. */
import { addClient, basic, openSessions, type TokenFormat } from '../accounts.ts';
import { CONNECTIONS, sayHello } from '../hello.ts';
import { type Load, load } from '../http-load.ts';
import type { Row } from '../report.ts';
import { type Comparison, compare, type Sample } from '../rounds.ts';
import type { Stand } from '../stand.ts';

const ROUNDS = 5;
/**
 * How often both run before they are measured: V8 optimises code by how much it was used. Introspection and opaque tokens are a fifth faster
 * after six seconds than after one and a half.
 */
export const WARM_UPS = 4;

/** A token of its own for each connection; the unmeasured round is the first time they are seen. */
export async function benchVerify(stand: Stand): Promise<Row[]> {
  const verify = await verifier(stand, 'jwt');
  return [
    { name: 'verify', what: 'GET /v1/verify, token seen before', ...(await againstHello(stand, ROUNDS, verify)) },
  ];
}

/** The same with opaque tokens, which the store is asked for each time. */
export async function benchOpaque(stand: Stand): Promise<Row[]> {
  const verify = await verifier(stand, 'opaque');
  return [{ name: 'opaque', what: 'GET /v1/verify, opaque token', ...(await againstHello(stand, ROUNDS, verify)) }];
}

/** It asks the stores, whatever the token. */
export async function benchIntrospection(stand: Stand): Promise<Row[]> {
  const { api, seconds } = stand;
  const authorization = basic(await addClient(stand, 'introspect'));
  const tokens = await openSessions(stand, CONNECTIONS);
  const headers = { authorization, 'content-type': 'application/x-www-form-urlencoded' };
  const introspect = (): Promise<Sample> =>
    load({
      url: api.url,
      connections: CONNECTIONS,
      seconds,
      caller: (connection) => ({
        request: {
          method: 'POST',
          path: '/oauth/introspect',
          headers,
          body: `token=${tokens[connection % CONNECTIONS]?.access_token}`,
        },
      }),
    });
  return [
    { name: 'introspection', what: 'POST /oauth/introspect', ...(await againstHello(stand, ROUNDS, introspect)) },
  ];
}

/** What it is against a Fastify that says hello, both warm. */
export async function againstHello(
  stand: Stand,
  rounds: number,
  measured: () => Promise<Sample>,
): Promise<Comparison & { against: string }> {
  const hello = async () => sayHello((await stand.hello()).url, stand.seconds);
  // And once more in the comparison.
  for (let run = 1; run < WARM_UPS; run += 1) {
    await hello();
    await measured();
  }
  const comparison = await compare(stand.rounds(rounds), hello, measured);
  return { against: 'Fastify hello', ...comparison };
}

/** Verifies for as long as one measurement takes. */
export async function verifier(stand: Stand, format: TokenFormat): Promise<() => Promise<Sample>> {
  const { api, seconds } = stand;
  const caller = await verifyRequests(stand, format);
  return () => load({ url: api.url, connections: CONNECTIONS, seconds, caller });
}

/** Callers that verify, each a token of its own. */
export async function verifyRequests(stand: Stand, format: TokenFormat): Promise<Load['caller']> {
  const tokens = await openSessions(stand, CONNECTIONS, format);
  return (connection) => ({
    request: {
      method: 'GET',
      path: '/v1/verify',
      headers: { authorization: `Bearer ${tokens[connection % CONNECTIONS]?.access_token}` },
    },
  });
}
