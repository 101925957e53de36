/** People who register, log in, refresh and use their tokens, all the time. */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import type { TokenResponse } from '../accounts.ts';
import { newAddress, PASSWORD } from '../test-app.ts';

/** How many do it, and every how many milliseconds each does, after the answer at the earliest: a fifth of what two cores could do. */
const PEOPLE = {
  verify: { count: 6, every: 100 },
  refresh: { count: 4, every: 200 },
  login: { count: 2, every: 500 },
  register: { count: 2, every: 500 },
};
type Kind = keyof typeof PEOPLE;
/** Milliseconds after which a request counts as failed. */
const ANSWER_WITHIN = 15_000;

/** One request on a connection of its own, as of one of many clients. */
async function ask(url: string, { token, payload }: { token?: string; payload?: object }) {
  const asking = request(url, {
    method: payload ? 'POST' : 'GET',
    agent: false,
    signal: AbortSignal.timeout(ANSWER_WITHIN),
    headers: {
      ...(payload && { 'content-type': 'application/json' }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
  });
  asking.end(payload && JSON.stringify(payload));
  const [response]: IncomingMessage[] = await once(asking, 'response');
  if (!response) throw new Error('no response');
  const body = await text(response);
  if (response.statusCode !== (url.endsWith('/v1/users') ? 202 : 200))
    throw new Error(`${response.statusCode} ${body}`);
  return body;
}

/** @param emails of accounts; `PASSWORD` is their password. */
export async function startLoad(base: string, emails: readonly string[]) {
  const answered: Record<Kind, number> = { verify: 0, refresh: 0, login: 0, register: 0 };
  const failed: string[] = [];
  const registered: string[] = [];
  let stopped = false;

  async function logIn(turn: number): Promise<TokenResponse> {
    const payload = { email: emails[turn % emails.length], password: PASSWORD };
    return JSON.parse(await ask(`${base}/v1/tokens`, { payload }));
  }
  const sessions = await Promise.all(Array.from({ length: PEOPLE.refresh.count }, (_, who) => logIn(who)));
  const sessionOf = (who: number) => sessions[who % sessions.length] as TokenResponse;

  const acts: Record<Kind, (who: number, turn: number) => Promise<unknown>> = {
    verify: (who) => ask(`${base}/v1/verify`, { token: sessionOf(who).access_token }),
    async refresh(who) {
      const payload = { refresh_token: sessionOf(who).refresh_token };
      sessions[who] = JSON.parse(await ask(`${base}/v1/tokens/refresh`, { payload }));
    },
    login: (who, turn) => logIn(who + turn),
    async register() {
      const email = newAddress('rolling');
      await ask(`${base}/v1/users`, { payload: { email, password: PASSWORD } });
      registered.push(email);
    },
  };

  async function live(kind: Kind, who: number): Promise<void> {
    for (let turn = 0; !stopped; turn += 1) {
      const rest = delay(PEOPLE[kind].every);
      try {
        await acts[kind](who, turn);
        answered[kind] += 1;
      } catch (error) {
        failed.push(`${kind}: ${error}`);
      }
      await rest;
    }
  }
  const lives = (Object.keys(PEOPLE) as Kind[]).flatMap((kind) =>
    Array.from({ length: PEOPLE[kind].count }, (_, who) => live(kind, who)),
  );
  return {
    /** How many so far. */
    answered,
    /** What went wrong so far. */
    failed,
    /** @returns the addresses that were registered. */
    async stop(): Promise<string[]> {
      stopped = true;
      await Promise.all(lives);
      return registered;
    },
  };
}
