/** Everybody at once: people verify, refresh, log in and out, and register, at a pace or as fast as it goes. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { addUsers, credentials, PASSWORD, type Session } from '../accounts.ts';
import type { Stand } from '../stand.ts';

/** Of a round of acts. A login ends the session before it, so that there are always as many. */
const MIX = { verify: 200, refresh: 40, login: 2, register: 1 };
type Act = keyof typeof MIX;
const ACTS = Object.keys(MIX) as Act[];
const ROUND = ACTS.reduce((sum, act) => sum + MIX[act], 0);

/** Acts under way at most: below the length of auth-api's queue for hashes on any machine. */
const LANES = 24;

/** Answers in a row that said to come again later: with so many, something does not get well. */
const PATIENCE = 10;

/** The acts of a round, each kind spread over it: whoever is owed most has the next place, and has then had it. */
export function roundOfActs(): Act[] {
  const owed = { verify: 0, refresh: 0, login: 0, register: 0 };
  return Array.from({ length: ROUND }, () => {
    for (const act of ACTS) owed[act] += MIX[act];
    const next = ACTS.reduce((most, act) => (owed[act] > owed[most] ? act : most));
    owed[next] -= ROUND;
    return next;
  });
}
const ORDER = roundOfActs();

/** @param count of people with one session each. */
export async function createPeople(stand: Stand, count: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: LANES });
  const { hostname, port } = new URL(stand.api.url);

  let refused = 0;
  /** Asks again when told to: where something else takes the cores for a moment, auth-api refuses what is too much (docs/overload.md). */
  async function ask<Body>(method: string, path: string, { token = '', body = '' } = {}): Promise<Body> {
    for (let times = 1; ; times += 1) {
      const { status, answer, retryAfter } = await askOnce(method, path, token, body);
      if (status >= 200 && status <= 299) return (answer && JSON.parse(answer)) as Body;
      if (status !== 503 || retryAfter === undefined || times === PATIENCE)
        throw new Error(`${method} ${path} was answered ${status} ${answer}`);
      refused += 1;
      await delay(Number(retryAfter) * 1000);
    }
  }

  async function askOnce(method: string, path: string, token: string, body: string) {
    const asking = request({
      agent,
      hostname,
      port,
      method,
      path,
      headers: {
        ...(body && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        ...(token && { authorization: `Bearer ${token}` }),
      },
    });
    asking.end(body);
    const [response] = (await once(asking, 'response')) as [IncomingMessage];
    const answer = await text(response);
    return { status: response.statusCode ?? 0, answer, retryAfter: response.headers['retry-after'] };
  }

  const logIn = (email: string) => ask<Session>('POST', '/v1/tokens', { body: credentials(email) });
  /** `since`: when the session's access token was asked for. */
  type Person = { readonly email: string; session: Session; since: number };
  /** Those who do nothing just now, the longest so first. */
  const idle: Person[] = [];
  const emails = await addUsers(stand, count);
  const arrive = async (): Promise<void> => {
    for (let email = emails.pop(); email !== undefined; email = emails.pop())
      idle.push({ email, since: performance.now(), session: await logIn(email) });
  };
  await Promise.all(Array.from({ length: LANES }, arrive));

  async function refresh(person: Person): Promise<void> {
    const body = JSON.stringify({ refresh_token: person.session.refresh_token });
    person.since = performance.now();
    person.session = await ask<Session>('POST', '/v1/tokens/refresh', { body });
  }
  /** One that is not about to expire. */
  async function tokenOf(person: Person): Promise<string> {
    if (performance.now() - person.since > person.session.expires_in * 500) await refresh(person);
    return person.session.access_token;
  }

  const acts: Readonly<Record<Act, (person: Person) => Promise<unknown>>> = {
    verify: async (person) => ask('GET', '/v1/verify', { token: await tokenOf(person) }),
    refresh,
    async login(person) {
      const since = performance.now();
      const session = await logIn(person.email);
      // Of the session before, and asked for only now: a login may take as long as a token lives.
      await ask('DELETE', '/v1/sessions/current', { token: await tokenOf(person) });
      Object.assign(person, { session, since });
    },
    register: () =>
      ask('POST', '/v1/users', {
        body: JSON.stringify({ email: `soak-${randomUUID()}@d${Date.now() % 100}.example.test`, password: PASSWORD }),
      }),
  };

  async function one(...doings: Act[]): Promise<void> {
    const person = idle.shift();
    if (!person) throw new Error('more acts at once than people');
    try {
      for (const act of doings) await acts[act](person);
    } finally {
      idle.push(person);
    }
  }

  let next = 0;
  return {
    /** Has so many tokens verified, each a new one: the service keeps the last of them. */
    async verifyNew(tokens: number): Promise<void> {
      let left = tokens;
      const lane = async (): Promise<void> => {
        for (; left > 0; left -= 1) await one('refresh', 'verify');
      };
      await Promise.all(Array.from({ length: LANES }, lane));
    },

    /**
     * @param rate acts a second; without one, as many as it goes.
     * @returns how many were done a second.
     * @throws what an act throws: the run is of no use then.
     */
    async live(seconds: number, rate = Number.POSITIVE_INFINITY): Promise<number> {
      const began = performance.now();
      const first = next;
      const lane = async (): Promise<void> => {
        for (;;) {
          const n = next;
          const due = began + ((n - first) * 1000) / rate;
          if (Math.max(due, performance.now()) > began + seconds * 1000) return;
          next += 1;
          const early = due - performance.now();
          if (early > 0) await delay(early);
          await one(ORDER[n % ROUND] ?? 'verify');
        }
      };
      await Promise.all(Array.from({ length: LANES }, lane));
      return ((next - first) * 1000) / (performance.now() - began);
    },
    /** How often somebody was told to come again later, and did. */
    refused: () => refused,
    leave: () => agent.destroy(),
  };
}
