import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type RevocationFeedOptions, revocationFeed } from '../src/feed.ts';

/** An issuer that answers as it is told. @returns its address. */
async function issuerOf(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const server = createServer(answer).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close().closeAllConnections());
  await new Promise((resolve) => server.once('listening', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const event = (name: string, data: unknown, id?: string): string =>
  `${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
const EPOCH = { id: 'epoch', born: 1000 };
const BEGIN = event('start', { epoch: EPOCH, resumed: false });
const RESUME = event('start', { epoch: EPOCH, resumed: true });
const EVENT_STREAM = { 'content-type': 'text/event-stream' };

function feedOf(url: string, options: Partial<RevocationFeedOptions> = {}) {
  const errors: string[] = [];
  const feed = revocationFeed({
    url,
    auth: { token: () => 'token' },
    onError: ({ message }) => errors.push(message),
    ...options,
  });
  onTestFinished(() => feed.close());
  return { feed, errors };
}

const issued = (sessionId: string, issuedAt = 2000) => ({ userId: 'ada', sessionId, issuedAt });

test('an issuer that tells of an epoch from before the one that is known is heard, but gives nothing back', async () => {
  const [ended, known] = [
    { id: 'ended', born: 1000 },
    { id: 'known', born: 2000 },
  ];
  const epochs = [ended, known, ended];
  // A connection for each, ended by the next beat.
  const issuer = createServer((_request, response) => {
    const epoch = epochs.shift();
    response.writeHead(epoch ? 200 : 503, { 'content-type': 'text/event-stream' });
    response.end(
      epoch && `event: start\ndata: ${JSON.stringify({ epoch, resumed: false })}\n\nevent: complete\ndata: {}\n\n`,
    );
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void issuer.close());
  await new Promise((resolve) => issuer.once('listening', resolve));
  const seen: (string | undefined)[] = [];
  const feed = revocationFeed({
    url: `http://127.0.0.1:${(issuer.address() as AddressInfo).port}`,
    auth: { token: () => 'token' },
    onError: () => seen.push(feed.epoch()?.id),
  });
  onTestFinished(() => feed.close());
  // What it says once the issuer has no more to tell.
  await vi.waitFor(() => expect(seen).toContain('ended'), { timeout: 5000 });
  expect(epochs).toEqual([]);
  const issued = (issuedAt: number) => feed.denies({ userId: 'ada', sessionId: 'phone', issuedAt });
  expect([issued(1999), issued(2000)]).toEqual([true, false]);
});

test('what could not be read is asked for again: the place to go on from is behind what was applied, and no further', async () => {
  const asked: unknown[] = [];
  const line = event('revoked', [{ sid: 'phone', from: 0, until: 9e9 }], 'epoch/2-0');
  const url = await issuerOf(({ headers }, response) => {
    asked.push(headers['last-event-id']);
    response.writeHead(200, EVENT_STREAM);
    if (asked.length === 1) {
      response.end(`${BEGIN}${event('complete', {}, 'epoch/1-0')}${line.replace(']', '')}`);
    } else response.write(`${RESUME}${line}${event('alive', { at: 0 })}`);
  });
  const { feed, errors } = feedOf(url);
  await vi.waitFor(() => expect(feed.failure?.()).toBeInstanceOf(SyntaxError), { timeout: 5000, interval: 1 });
  await vi.waitFor(() => expect([feed.fresh(), feed.failure?.()]).toEqual([true, undefined]), 5000);
  expect([asked, errors.length]).toEqual([[undefined, 'epoch/1-0'], 1]);
  expect([feed.denies(issued('phone')), feed.denies(issued('laptop'))]).toEqual([true, false]);
});

test('a token that never comes is given up after the bound, and asked for again', async () => {
  const url = await issuerOf((_request, response) => {
    response.writeHead(200, EVENT_STREAM);
    response.write(`${BEGIN}${event('complete', {}, 'epoch/1-0')}${event('alive', { at: 0 })}`);
  });
  const signals: AbortSignal[] = [];
  const { feed, errors } = feedOf(url, {
    lagMax: 200,
    auth: {
      token(signal) {
        signals.push(signal);
        return signals.length === 1 ? new Promise(() => undefined) : 'token';
      },
    },
  });
  await vi.waitFor(() => expect(feed.fresh()).toBe(true), { timeout: 5000, interval: 1 });
  expect([errors[0], signals[0]?.aborted]).toEqual(['nothing was heard for 200 ms', true]);
});

test.each([
  ['', '/oauth/token'],
  ['/tenants/one', '/tenants/one/oauth/token'],
])('an issuer at the path "%s" is asked for tokens there, and nobody else is told the secret', async (path, tokens) => {
  const posted: unknown[] = [];
  const url = await issuerOf(({ method, url: asked }, response) => {
    if (method === 'POST') posted.push(asked);
    response.writeHead(503).end();
  });
  const client = { id: 'orders', secret: 'secret' };
  const { errors } = feedOf(`${url}${path}/v1/revocations`, { auth: { client } });
  await vi.waitFor(() => expect(errors.length).toBeGreaterThan(0), 5000);
  expect(new Set(posted)).toEqual(new Set([tokens]));
});

test('a step of the clock of Redis makes no revoked token good again', async () => {
  const now = Date.now();
  const until = Math.floor(now / 1000) + 600;
  const url = await issuerOf((_request, response) => {
    response.writeHead(200, EVENT_STREAM);
    response.write(
      `${BEGIN}${event('revoked', [{ sid: 'phone', from: 0, until }])}${event('complete', {}, `epoch/${now}-0`)}`,
    );
    const ahead = now + 3_600_000;
    response.write(event('revoked', [{ sid: 'laptop', from: 0, until: until + 3600 }], `epoch/${ahead}-0`));
    response.write(event('alive', { at: 0 }));
  });
  const { feed } = feedOf(url);
  await vi.waitFor(() => expect(feed.fresh()).toBe(true), 5000);
  expect([feed.denies(issued('phone')), feed.denies(issued('laptop'))]).toEqual([true, true]);
});

test('what onError throws does not end the feed', async () => {
  const warned = vi.spyOn(process, 'emitWarning').mockReturnValue();
  let asked = 0;
  const url = await issuerOf((_request, response) => {
    asked += 1;
    response.writeHead(asked === 1 ? 503 : 200, EVENT_STREAM);
    if (asked === 1) response.end();
    else response.write(`${BEGIN}${event('complete', {}, 'epoch/1-0')}${event('alive', { at: 0 })}`);
  });
  const { feed } = feedOf(url, {
    onError() {
      throw new Error('of the listener');
    },
  });
  await vi.waitFor(() => expect(feed.fresh()).toBe(true), 5000);
  expect(warned).toHaveBeenCalledWith(new Error('of the listener'));
});

test('a host whose clock is so far behind that it takes dead tokens for good says so, once', async () => {
  const lead = [50, 70, 3600, 0];
  let asked = 0;
  const url = await issuerOf((_request, response) => {
    const date = new Date(Date.now() + (lead[asked] ?? 0) * 1000).toUTCString();
    asked += 1;
    response.writeHead(200, { ...EVENT_STREAM, date }).end();
  });
  const { errors } = feedOf(url);
  await vi.waitFor(() => expect(asked).toBeGreaterThan(lead.length), { timeout: 5000, interval: 1 });
  expect(errors).toEqual([expect.stringMatching(/^the clock of this host is (69|70) s behind/)]);
});

/** @param at milliseconds since it was asked at which it knew everything. */
const told = (at = 0) => `${BEGIN}${event('complete', {}, 'epoch/1-0')}${event('alive', { at })}`;

test('a verifier that is told everything anew goes on within the bound, and is behind until it has heard all of it', async () => {
  let asked = 0;
  const url = await issuerOf((_request, response) => {
    asked += 1;
    response.writeHead(200, EVENT_STREAM);
    if (asked === 1) response.end(told());
    else {
      response.write(`${BEGIN}${event('revoked', [{ sid: 'phone', from: 0, until: 9e9 }])}`);
      // Whatever it says before `complete`: what was told until then is not all.
      const beat = setInterval(() => response.write(event('alive', { at: 60_000 })), 50);
      response.once('close', () => clearInterval(beat));
    }
  });
  const { feed } = feedOf(url, { lagMax: 1000 });
  const refused = () => [feed.denies(issued('phone')), feed.denies(issued('laptop'))];
  await vi.waitFor(() => expect(refused()).toEqual([true, false]), { timeout: 5000, interval: 1 });
  expect([asked, feed.fresh()]).toEqual([2, feed.lag() <= 1000]);
  expect(feed.lag()).toBeLessThan(60_000);
  await vi.waitFor(() => expect(feed.fresh()).toBe(false), { timeout: 5000, interval: 1 });
  expect([asked, feed.lag() < 1100]).toEqual([2, true]);
});

test('another epoch takes belief away at once: what was heard before was said of another Redis', async () => {
  let asked = 0;
  const url = await issuerOf((_request, response) => {
    asked += 1;
    response.writeHead(200, EVENT_STREAM);
    if (asked === 1) response.end(told());
    else response.write(event('start', { epoch: { id: 'another', born: 3000 }, resumed: false }));
  });
  const { feed } = feedOf(url);
  await vi.waitFor(() => expect(feed.fresh()).toBe(true), { timeout: 5000, interval: 1 });
  await vi.waitFor(() => expect(feed.epoch()?.born).toBe(3000), { timeout: 5000, interval: 1 });
  expect(feed.lag()).toBe(Number.POSITIVE_INFINITY);
});

test('a connection that took longer than the bound to tell everything is not ended before its first sign of life', async () => {
  const lagMax = 200;
  let asked = 0;
  const url = await issuerOf((_request, response) => {
    asked += 1;
    const began = performance.now();
    response.writeHead(200, EVENT_STREAM);
    response.write(BEGIN);
    let completed = false;
    const saying = setInterval(() => {
      const at = performance.now() - began;
      response.write(event('revoked', [{ sid: 'phone', from: 0, until: 9e9 }]));
      if (!completed && at > 2 * lagMax) response.write(event('complete', {}, 'epoch/1-0'));
      completed ||= at > 2 * lagMax;
      if (at > 4 * lagMax) response.write(event('alive', { at }));
    }, lagMax / 8);
    response.once('close', () => clearInterval(saying));
  });
  const { feed } = feedOf(url, { lagMax });
  await vi.waitFor(() => expect(feed.fresh()).toBe(true), { timeout: 5000, interval: 1 });
  expect(asked).toBe(1);
});

/** The wall clock is set, as it looks after a sleep of the machine; the steady one goes on. */
function stepClock(by: number): void {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + by });
  onTestFinished(() => void vi.useRealTimers());
}

test.each([
  ['a sleep of the machine, in which its steady clock stands still,', 3_600_000, false],
  ['a step of its clock backwards', -3_600_000, true],
])('%s keeps nothing believed for longer than the bound', async (_what, by, fresh) => {
  let asked = 0;
  const url = await issuerOf((_request, response) => {
    asked += 1;
    response.writeHead(200, EVENT_STREAM);
    if (asked !== 2) response.write(told());
  });
  const { feed } = feedOf(url, { lagMax: 500 });
  await vi.waitFor(() => expect(feed.fresh()).toBe(true), { timeout: 5000, interval: 1 });
  stepClock(by);
  expect(feed.fresh()).toBe(fresh);
  await vi.waitFor(() => expect(feed.fresh()).toBe(false), { timeout: 5000, interval: 1 });
  await vi.waitFor(() => expect(feed.fresh()).toBe(true), { timeout: 5000, interval: 1 });
  expect(asked).toBe(3);
});

test('a sign of life that lies ahead, as for a machine that slept while the connection was open, counts from when it came', async () => {
  let asked = 0;
  const url = await issuerOf((_request, response) => {
    asked += 1;
    response.writeHead(200, EVENT_STREAM);
    if (asked === 1) response.write(told(3_600_000));
  });
  const { feed } = feedOf(url, { lagMax: 200 });
  await vi.waitFor(() => expect(feed.fresh()).toBe(true), { timeout: 5000, interval: 1 });
  await vi.waitFor(() => expect(feed.fresh()).toBe(false), { timeout: 5000, interval: 1 });
});
