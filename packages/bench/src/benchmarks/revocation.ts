/** How long after a revocation was asked for the last of five verifiers refuses, each in its own process, under load. */
import { addClient, basic, clientToken, openSessions } from '../accounts.ts';
import { load } from '../http-load.ts';
import { steadyNow } from '../programs/control.ts';
import type { Refused } from '../programs/outside-verifier.ts';
import type { Row } from '../report.ts';
import { spread } from '../rounds.ts';
import type { Client, Program, Stand } from '../stand.ts';
import { verifyRequests } from './verify.ts';

/** Three hear of revocations from Redis, two by the feed. */
const [BY_REDIS, BY_FEED] = [3, 2];
/** Revocations under way at once, and connections that verify meanwhile. */
const [AT_ONCE, LOAD] = [4, 8];

/** How a token is ended. */
type Revocation = { readonly token: string; readonly end: () => Promise<Response> };

export async function benchRevocation(stand: Stand): Promise<Row[]> {
  const reader = await addClient(stand, 'revocations:read');
  const verifiers = await Promise.all([
    ...Array.from({ length: BY_REDIS }, () => stand.outsideVerifier(stand.redisUrl)),
    ...Array.from({ length: BY_FEED }, () => stand.outsideVerifier(`${stand.api.url}/v1/revocations`, reader)),
  ]);
  const admin = await addClient(stand, 'admin');
  const left = await revocationsOf(stand, admin, stand.sizes.revocations - 1);
  const latencies: number[] = [];
  const revokeNext = async (): Promise<void> => {
    for (let one = left.pop(); one; one = left.pop()) latencies.push(await refusedEverywhere(verifiers, one));
  };
  const caller = await verifyRequests(stand, 'opaque');
  let done = false;
  const loaded = (async () => {
    while (!done) await load({ url: stand.api.url, connections: LOAD, seconds: Math.min(1, stand.seconds), caller });
  })();
  await Promise.all(Array.from({ length: AT_ONCE }, revokeNext));
  // The last, because it ends every token there is.
  latencies.push(await refusedEverywhere(verifiers, await keyRevocation(stand, admin)));
  done = true;
  await loaded;
  await Promise.all(verifiers.map((program) => program.stop()));
  const what = `a revocation asked for, to refused by ${verifiers.length} verifiers`;
  return [{ name: 'revocation', what, latency: spread(latencies) }];
}

/** Milliseconds. */
async function refusedEverywhere(verifiers: readonly Program[], { token, end }: Revocation): Promise<number> {
  const post = (path: string) =>
    verifiers.map(({ url }) =>
      fetch(`${url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ token }),
      }),
    );
  for (const { status } of await Promise.all(post('/good')))
    if (status !== 204) throw new Error('the token is not good');
  const refusals = post('/refused');
  const asked = steadyNow();
  const answer = await end();
  if (!answer.ok) throw new Error(`the revocation was answered ${answer.status} ${await answer.text()}`);
  const instants = await Promise.all(refusals.map(async (refusal) => ((await (await refusal).json()) as Refused).at));
  return Math.max(...instants) - asked;
}

/** As many of each kind. */
async function revocationsOf(stand: Stand, admin: Client, count: number): Promise<Revocation[]> {
  const { api } = stand;
  const perKind = Math.ceil(count / 4);
  const bearer = `Bearer ${await clientToken(stand, admin)}`;
  const asAdmin = (path: string, body: object) =>
    fetch(`${api.url}/v1/admin${path}`, {
      method: 'POST',
      headers: { authorization: bearer, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const tokens = (await openSessions(stand, 3 * perKind)).map(({ access_token: token }) => token);
  const kinds: readonly ((token: string) => Promise<Response>)[] = [
    (token) =>
      fetch(`${api.url}/v1/sessions/current`, { method: 'DELETE', headers: { authorization: `Bearer ${token}` } }),
    (token) => asAdmin(`/users/${partOf(token, 1).sub}/revocations`, {}),
    (token) => asAdmin('/tokens/deny', { token }),
  ];
  const ofUsers = tokens.map((token, index) => ({
    token,
    end: async () => kinds[index % 3]?.(token) ?? Response.error(),
  }));
  const client = await addClient(stand, 'introspect');
  const ofClients = await Promise.all(
    Array.from({ length: perKind }, async () => {
      const token = await clientToken(stand, client);
      const end = () =>
        fetch(`${api.url}/oauth/revoke`, {
          method: 'POST',
          headers: { authorization: basic(client) },
          body: new URLSearchParams({ token }),
        });
      return { token, end };
    }),
  );
  // By turns, and no more than were asked for.
  return ofClients.flatMap((one, index) => [one, ...ofUsers.slice(index * 3, index * 3 + 3)]).slice(0, count);
}

/** Of the key that signs. */
async function keyRevocation(stand: Stand, admin: Client): Promise<Revocation> {
  const token = await clientToken(stand, admin);
  const end = () =>
    fetch(`${stand.api.url}/v1/admin/keys/${partOf(token, 0).kid}`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${token}` },
    });
  return { token, end };
}

/** The header (0) or the claims (1) of a token. */
function partOf(token: string, index: number): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split('.')[index] ?? '', 'base64url').toString()) as Record<string, unknown>;
}
