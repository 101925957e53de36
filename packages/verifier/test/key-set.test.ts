/** The keys of an issuer that is asked over HTTP. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createVerifier } from '../src/verifier.ts';
import { AUDIENCE, goodToken, ISSUER, saidRevocations, type TestKey, testKey } from './signing.ts';

/** Longer than a test: what happens within one window happens in all of it. */
const WINDOW = 60_000;

/** An issuer's key set, counted. */
async function issuer({ window = WINDOW, maxAge = 300, age = 0 } = {}) {
  const state = { keys: [testKey()] as TestKey[], fetches: 0, status: 200, maxAge, age, cached: false };
  const server = createServer(({ headers }, response) => {
    state.fetches += 1;
    state.cached ||= headers['cache-control'] !== 'no-cache';
    response.writeHead(state.status, { 'cache-control': `public, max-age=${state.maxAge}`, age: String(state.age) });
    response.end(JSON.stringify({ keys: state.keys.map(({ jwk }) => jwk) }));
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const errors: Error[] = [];
  const verifier = createVerifier({
    issuer: ISSUER,
    audience: AUDIENCE,
    jwks: `http://127.0.0.1:${(server.address() as AddressInfo).port}/.well-known/jwks.json`,
    jwksWindow: window,
    revocations: saidRevocations().revocations,
    onError: (error) => errors.push(error),
  });
  onTestFinished(() => {
    verifier.close();
    server.close().closeAllConnections();
  });
  return { state, verifier, errors };
}

test('a flood of unknown kids costs one fetch per window, and good tokens go on', async () => {
  const { state, verifier } = await issuer();
  const good = goodToken(state.keys[0] ?? testKey());
  await verifier.verify(good);
  const flood = Array.from({ length: 200 }, () => testKey('EdDSA'));
  await Promise.all(
    flood.map((key) => expect(verifier.verify(goodToken(key))).rejects.toMatchObject({ code: 'key_unknown' })),
  );
  await expect(verifier.verify(goodToken(state.keys[0] ?? testKey()))).resolves.toBeDefined();
  expect(state.fetches).toBe(1);
});

test('concurrent tokens of a new key share the one fetch that finds it', async () => {
  const { state, verifier } = await issuer({ window: 0 });
  await verifier.verify(goodToken(state.keys[0] ?? testKey()));
  const next = testKey('EdDSA');
  state.keys.push(next);
  const before = state.fetches;
  await Promise.all(Array.from({ length: 20 }, () => verifier.verify(goodToken(next))));
  expect(state.fetches - before).toBe(1);
});

test('no cache between may answer: it would not have the key that has just come', async () => {
  const { state, verifier } = await issuer({ window: 0 });
  await verifier.verify(goodToken(state.keys[0] ?? testKey()));
  const next = testKey();
  state.keys.push(next);
  await verifier.verify(goodToken(next));
  expect(state).toMatchObject({ fetches: 2, cached: false });
});

test('the set is fetched anew when its time is over; a key that is gone is believed no more, in tokens seen before either', async () => {
  const { state, verifier } = await issuer({ window: 20, maxAge: 0 });
  const old = goodToken(state.keys[0] ?? testKey());
  await verifier.verify(old);
  state.keys = [testKey('EdDSA')];
  await vi.waitFor(() => expect(verifier.verifySeen(old)).toBeUndefined());
  await expect(verifier.verify(old)).rejects.toMatchObject({ code: 'key_unknown' });
});

test('an issuer that is away, or answers nonsense, takes no key away within ten minutes', async () => {
  const { state, verifier, errors } = await issuer({ window: 20, maxAge: 0 });
  const [key = testKey()] = state.keys;
  await verifier.verify(goodToken(key));
  state.status = 500;
  await vi.waitFor(() => expect(errors.length).toBeGreaterThan(1));
  state.status = 200;
  state.keys = [];
  const seen = errors.length;
  await vi.waitFor(() => expect(errors.length).toBeGreaterThan(seen + 1));
  await expect(verifier.verify(goodToken(key))).resolves.toBeDefined();
});

/** From now on time stands still but for `vi.advanceTimersByTime`; that of tokens (Date) goes on. */
function stopTime(): void {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
}

/** As `vi.waitFor`, which would move the time. */
async function until(holds: () => boolean): Promise<void> {
  const latest = Date.now() + 20_000;
  while (!holds()) {
    expect(Date.now()).toBeLessThan(latest);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('a set that can’t be fetched anew is believed for ten minutes; then no token is, seen before or not, until it can', async () => {
  stopTime();
  const { state, verifier, errors } = await issuer();
  const [key = testKey()] = state.keys;
  const seen = goodToken(key);
  await verifier.verify(seen);
  state.status = 500;
  vi.advanceTimersByTime(599_000);
  await until(() => errors.length === 1);
  expect(verifier.verifySeen(seen)).toBeDefined();
  await expect(verifier.verify(goodToken(key))).resolves.toBeDefined();

  vi.advanceTimersByTime(1000);
  expect(verifier.verifySeen(seen)).toBeUndefined();
  const refused = (token: string) =>
    expect(verifier.verify(token)).rejects.toMatchObject({ code: 'keys_unavailable', status: 503 });
  await refused(seen);
  // One fetch a window, and one for all who ask at once.
  for (let n = 0; n < 10; n += 1) await refused(goodToken(key));
  expect(state.fetches).toBe(2);
  vi.advanceTimersByTime(WINDOW);
  await Promise.all(Array.from({ length: 20 }, () => refused(goodToken(key))));
  await refused(seen);
  expect(state.fetches).toBe(3);

  state.status = 200;
  vi.advanceTimersByTime(WINDOW);
  await expect(verifier.verify(seen)).resolves.toBeDefined();
  expect(verifier.verifySeen(seen)).toBeDefined();
  expect(state.fetches).toBe(4);
});

test('a set is fetched anew after five minutes, if it may be kept for a day too, and believed for ten minutes from then', async () => {
  stopTime();
  const { state, verifier } = await issuer({ maxAge: 86_400 });
  const [key = testKey()] = state.keys;
  const seen = goodToken(key);
  await verifier.verify(seen);
  const next = testKey('EdDSA');
  state.keys.push(next);
  vi.advanceTimersByTime(300_000);
  await until(() => state.fetches === 2);
  // Waits for what that fetch finds.
  await verifier.verify(goodToken(next));
  state.status = 500;
  vi.advanceTimersByTime(599_000);
  expect(verifier.verifySeen(seen)).toBeDefined();
  await expect(verifier.verify(goodToken(key))).resolves.toBeDefined();
});

test('after a sleep of the machine of ten minutes, during which no timer runs, no key is believed that can’t be fetched anew', async () => {
  const { state, verifier } = await issuer();
  const [key = testKey()] = state.keys;
  const inAnHour = Math.floor(Date.now() / 1000) + 3600;
  const seen = goodToken(key, { exp: inAnHour });
  await verifier.verify(seen);
  const began = Date.now();
  vi.useFakeTimers({ toFake: ['Date'], now: began + 595_000 });
  onTestFinished(() => void vi.useRealTimers());
  expect(verifier.verifySeen(seen)).toBeDefined();
  state.status = 500;
  vi.setSystemTime(began + 600_000);
  expect(verifier.verifySeen(seen)).toBeUndefined();
  for (const token of [seen, goodToken(key, { exp: inAnHour })])
    await expect(verifier.verify(token)).rejects.toMatchObject({ code: 'keys_unavailable' });
  state.status = 200;
  vi.setSystemTime(began + 600_000 + WINDOW);
  await expect(verifier.verify(seen)).resolves.toBeDefined();
});

test('what a cache has kept is that much older: it is fetched anew earlier, and believed for less long', async () => {
  stopTime();
  const { state, verifier } = await issuer({ age: 100 });
  const [key = testKey()] = state.keys;
  const seen = goodToken(key);
  await verifier.verify(seen);
  vi.advanceTimersByTime(199_000);
  expect(state.fetches).toBe(1);
  state.status = 500;
  vi.advanceTimersByTime(1000);
  await until(() => state.fetches === 2);
  vi.advanceTimersByTime(299_000);
  expect(verifier.verifySeen(seen)).toBeDefined();
  vi.advanceTimersByTime(1000);
  expect(verifier.verifySeen(seen)).toBeUndefined();
});

test('what a cache has kept for ten minutes is no set of keys', async () => {
  const { state, verifier, errors } = await issuer({ age: 600 });
  const refusal = await verifier.verify(goodToken(state.keys[0] ?? testKey())).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ code: 'keys_unavailable', cause: errors[0] });
  expect(errors[0]?.message).toContain('600 s old');
});

test('what onError throws keeps no key from being fetched', async () => {
  const warned = vi.spyOn(process, 'emitWarning').mockReturnValue();
  const { state, verifier, errors } = await issuer({ window: 20, maxAge: 0 });
  const [key = testKey()] = state.keys;
  await verifier.verify(goodToken(key));
  errors.push = () => {
    throw new Error('of the listener');
  };
  state.status = 500;
  await vi.waitFor(() => expect(warned).toHaveBeenCalledWith(new Error('of the listener')));
  state.status = 200;
  const next = testKey();
  state.keys = [next];
  await vi.waitFor(() => verifier.verify(goodToken(next)), 5000);
});

test('one that was never there is 503, not a refusal of the token', async () => {
  const verifier = createVerifier({
    issuer: ISSUER,
    audience: AUDIENCE,
    jwks: 'http://127.0.0.1:9/',
    revocations: saidRevocations().revocations,
  });
  onTestFinished(() => verifier.close());
  await expect(verifier.verify(goodToken(testKey()))).rejects.toMatchObject({ code: 'keys_unavailable', status: 503 });
});

test('a kid that is not known is no refusal of the token while the keys can’t be fetched', async () => {
  const { state, verifier, errors } = await issuer({ window: 0 });
  const [key = testKey()] = state.keys;
  await verifier.verify(goodToken(key));
  state.status = 500;
  const next = testKey();
  const refusal = await verifier.verify(goodToken(next)).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ code: 'keys_unavailable', status: 503 });
  expect((refusal as Error).cause).toBe(errors[0]);
  await expect(verifier.verify(goodToken(key))).resolves.toBeDefined();
  state.status = 200;
  await expect(verifier.verify(goodToken(next))).rejects.toMatchObject({ code: 'key_unknown' });
  state.keys.push(next);
  await expect(verifier.verify(goodToken(next))).resolves.toBeDefined();
});
