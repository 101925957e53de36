/** `GET /v1/revocations` as whoever listens sees it. */
import { connect } from 'node:net';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { addClient, clientToken, type TestClient } from '../clients.ts';
import { startTestApp, type TestApp, testApp } from '../test-app.ts';
import { LAG_MAX, logWriter, SOON } from './feed-suite.ts';

const NAMESPACE = `latchkey:feed-${process.pid}`;
const env = { REVOCATION_LAG_MAX_MS: String(LAG_MAX), RATE_LIMITS: 'off' };
let api: TestApp;
let url: string;
let reader: TestClient;

beforeAll(async () => {
  api = await startTestApp({ env, namespace: NAMESPACE });
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
  reader = await addClient(api.databaseUrl, 'revocations:read', 'introspect');
});
afterAll(() => api.close());

/** On a busy machine Redis may not be heard of in time now and then. */
const tokenOf = (client = reader, scope?: string, instance = api) =>
  vi.waitFor(() => clientToken(instance, client, scope), SOON);

/** Reads the feed and keeps what it says. */
async function listen({ token, at = url, from }: { token?: string; at?: string; from?: string | undefined } = {}) {
  const controller = new AbortController();
  onTestFinished(() => controller.abort());
  const bearer = token ?? (await tokenOf(reader, 'revocations:read'));
  const response = await fetch(`${at}/v1/revocations`, {
    headers: { authorization: `Bearer ${bearer}`, ...(from !== undefined && { 'last-event-id': from }) },
    signal: controller.signal,
  });
  const events: EventSourceMessage[] = [];
  let over = false;
  const parser = createParser({ onEvent: (event) => events.push(event) });
  const ended = (async () => {
    for await (const text of response.body?.pipeThrough(new TextDecoderStream()) ?? []) parser.feed(text);
  })()
    .catch(() => undefined)
    .then(() => {
      over = true;
    });
  const named = (name: string) => events.filter(({ event }) => event === name);
  return {
    response,
    events,
    named,
    lines: () => named('revoked').flatMap(({ data }) => JSON.parse(data) as Record<string, unknown>[]),
    heard: (name: string, times = 1) =>
      vi.waitFor(() => expect(named(name).length).toBeGreaterThanOrEqual(times), SOON),
    ended,
    isOver: () => over,
    leave: () => controller.abort(),
  };
}

test('says all there is, that it is all, and then what comes', async () => {
  const log = logWriter(api, NAMESPACE);
  await log.revoke({ sessionId: 'phone', from: 0 });
  await log.revoke({ keyId: 'stolen-key' });
  await log.revoke({ userId: 'ada', cutoff: 17 });
  await vi.waitFor(async () => {
    const feed = await listen();
    await feed.heard('complete');
    feed.leave();
    expect(feed.lines()).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ sid: 'phone', from: 0 }),
        expect.objectContaining({ kid: 'stolen-key' }),
        expect.objectContaining({ sub: 'ada', cutoff: 17 }),
      ]),
    );
  }, SOON);
  const feed = await listen();
  expect(feed.response.headers.get('content-type')).toMatch(/^text\/event-stream/);
  expect(feed.response.headers.get('cache-control')).toBe('no-store');
  await feed.heard('alive');
  const id = await log.revoke({ sessionId: 'laptop', from: 0 });
  await vi.waitFor(() => expect(feed.lines()).toContainEqual(expect.objectContaining({ sid: 'laptop' })), SOON);
  expect(feed.named('revoked').at(-1)?.id).toMatch(new RegExp(`^[\\w-]+/${id}$`));
  const order = feed.events.map(({ event }) => event);
  expect(order[0]).toBe('start');
  expect(order.indexOf('complete')).toBeLessThan(order.indexOf('alive'));
});

test('goes on after the last event that was read, and only then; else it starts over', async () => {
  const log = logWriter(api, NAMESPACE);
  const first = await listen();
  await first.heard('alive');
  await log.revoke({ sessionId: 'read-before', from: 0 });
  await vi.waitFor(() => expect(first.lines()).toContainEqual(expect.objectContaining({ sid: 'read-before' })), SOON);
  const last = first.named('revoked').at(-1)?.id ?? '';
  first.leave();
  await log.revoke({ sessionId: 'while-away', from: 0 });

  const resumed = await listen({ from: last });
  await vi.waitFor(() => expect(resumed.lines()).toEqual([expect.objectContaining({ sid: 'while-away' })]), SOON);
  expect(JSON.parse(resumed.events[0]?.data ?? '{}')).toMatchObject({ resumed: true });
  expect(resumed.named('complete')).toEqual([]);

  const [epoch, position] = last.split('/');
  for (const from of [`another/${position}`, `${epoch}/1-1`, `${epoch}/99999999999999-0`, 'nonsense', '']) {
    const anew = await listen({ from });
    await anew.heard('complete');
    expect(JSON.parse(anew.events[0]?.data ?? '{}'), from).toMatchObject({ resumed: false, epoch: { id: epoch } });
    expect(anew.lines()).toContainEqual(expect.objectContaining({ sid: 'read-before' }));
    anew.leave();
  }
});

test('gives several signs of life within the bound, each with an instant at which all was known', async () => {
  const feed = await listen();
  await feed.heard('alive', 10);
  const at = feed.named('alive').map(({ data }) => (JSON.parse(data) as { at: number }).at);
  const gaps = at.slice(1).map((instant, index) => instant - (at[index] ?? 0));
  expect(at).toEqual(at.toSorted((a, b) => a - b));
  // On a busy machine one or the other may be late; half of them must not be.
  expect(gaps.toSorted((a, b) => a - b)[4]).toBeLessThanOrEqual(LAG_MAX / 2);
});

test('is for clients with its scope', async () => {
  const other = await addClient(api.databaseUrl, 'introspect');
  const status = async (token?: string) =>
    (await fetch(`${url}/v1/revocations`, { headers: { ...(token && { authorization: `Bearer ${token}` }) } })).status;
  expect(await status()).toBe(401);
  expect(await status('nonsense')).toBe(401);
  expect(await status(await tokenOf(other))).toBe(403);
});

test('ends when the client’s token is revoked, and when it expires', async () => {
  const token = await tokenOf(reader, 'revocations:read');
  const feed = await listen({ token });
  await feed.heard('alive');
  const { jti } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { jti: string };
  await logWriter(api, NAMESPACE).revoke({ sessionId: jti, from: 0 });
  await feed.ended;

  const brief = await testApp({
    databaseUrl: api.databaseUrl,
    namespace: NAMESPACE,
    env: { ...env, ACCESS_TOKEN_TTL: '3' },
  });
  const at = await brief.app.listen({ host: '127.0.0.1', port: 0 });
  const own = await tokenOf(reader, 'revocations:read', brief);
  const short = await listen({ token: own, at });
  expect(short.response.status).toBe(200);
  await short.ended;
  expect((await fetch(`${at}/v1/revocations`, { headers: { authorization: `Bearer ${own}` } })).status).toBe(401);
});

test('ends when the app closes, which does not wait for it', async () => {
  const other = await startTestApp({ databaseUrl: api.databaseUrl, namespace: NAMESPACE, env });
  const feed = await listen({ at: await other.app.listen({ host: '127.0.0.1', port: 0 }) });
  await feed.heard('alive');
  const began = performance.now();
  await other.close();
  await feed.ended;
  expect(performance.now() - began).toBeLessThan(4000);
});

test('many listeners share one reader of Redis, and each hears what is revoked', async () => {
  const log = logWriter(api, NAMESPACE);
  const connections = async () => String(await log.redis.client('LIST')).split('\n').length;
  const before = await connections();
  const token = await tokenOf(reader, 'revocations:read');
  const feeds = await Promise.all(Array.from({ length: 50 }, () => listen({ token })));
  await Promise.all(feeds.map((feed) => feed.heard('alive')));
  await log.revoke({ sessionId: 'heard-by-all', from: 0 });
  await Promise.all(
    feeds.map((feed) =>
      vi.waitFor(() => expect(feed.lines()).toContainEqual(expect.objectContaining({ sid: 'heard-by-all' })), SOON),
    ),
  );
  // Other suites share this Redis and come and go.
  expect(await connections()).toBeLessThan(before + 25);
});

test('a listener that reads nothing costs no memory and holds up nobody', async () => {
  const log = logWriter(api, NAMESPACE);
  const token = await tokenOf(reader, 'revocations:read');
  const socket = connect({ host: '127.0.0.1', port: Number(new URL(url).port) });
  onTestFinished(() => void socket.destroy());
  socket.write(`GET /v1/revocations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\n\r\n`);
  socket.pause();
  let feed = await listen({ token });
  await feed.heard('alive');
  // Enough for the buffers of the sockets, several times over.
  const [before, name] = [process.memoryUsage().heapUsed, 'x'.repeat(400)];
  for (let round = 0; round < 20; round += 1) {
    const pipeline = log.redis.pipeline();
    for (let one = 0; one < 1000; one += 1)
      pipeline.xadd(log.keys.revocations, '*', 'sid', `9000000000 0 ${name}${round}-${one}`);
    await pipeline.exec();
  }
  await vi.waitFor(async () => {
    // Whoever was cut off, as on a machine that is busy with so much, comes again.
    if (feed.isOver()) feed = await listen({ token });
    expect(feed.named('revoked').at(-1)?.data.includes(`${name}19-999`)).toBe(true);
  }, SOON);
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(200_000_000);
  await log.redis.xtrim(log.keys.revocations, 'MAXLEN', 1);
});

test('503 while the log is not known', async () => {
  const token = await tokenOf(reader, 'revocations:read');
  const log = logWriter(api, NAMESPACE);
  const feed = await listen({ token });
  await feed.heard('alive');
  const kept = await log.redis.hgetall(log.keys.epoch);
  // No epoch, and nobody who may begin one.
  await log.redis.set(`${log.keys.epoch}:kept`, JSON.stringify(kept));
  await log.redis.del(log.keys.epoch);
  await log.redis.set(log.keys.epoch, 'in the way');
  await feed.ended;
  await vi.waitFor(async () => {
    const response = await fetch(`${url}/v1/revocations`, { headers: { authorization: `Bearer ${token}` } });
    await response.body?.cancel();
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1']);
  }, SOON);
  await log.redis.del(log.keys.epoch, `${log.keys.epoch}:kept`);
  await log.redis.hset(log.keys.epoch, kept);
  await vi.waitFor(async () => expect((await api.get('/readyz')).json().checks.revocations.status).toBe('up'), SOON);
});

test('stands in the OpenAPI document', async () => {
  const { paths } = (await api.get('/openapi.json')).json();
  expect(Object.keys(paths['/v1/revocations'].get.responses['200'].content)).toEqual(['text/event-stream']);
  expect(Object.keys(paths['/v1/revocations'].get.responses)).toEqual(expect.arrayContaining(['401', '403', '503']));
});
