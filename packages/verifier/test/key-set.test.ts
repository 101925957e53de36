/** The keys of an issuer that is asked over HTTP. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createVerifier } from '../src/verifier.ts';
import { AUDIENCE, goodToken, ISSUER, saidRevocations, type TestKey, testKey } from './signing.ts';

/** Longer than a test: what happens within one window happens in all of it. */
const WINDOW = 60_000;

/** An issuer's key set, counted. */
async function issuer({ window = WINDOW, maxAge = 300 } = {}) {
  const state = { keys: [testKey()] as TestKey[], fetches: 0, status: 200, maxAge };
  const server = createServer((_request, response) => {
    state.fetches += 1;
    response.writeHead(state.status, { 'cache-control': `public, max-age=${state.maxAge}` });
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

test('the set is fetched anew when its time is over; a key that is gone is believed no more, in tokens seen before either', async () => {
  const { state, verifier } = await issuer({ window: 20, maxAge: 0 });
  const old = goodToken(state.keys[0] ?? testKey());
  await verifier.verify(old);
  state.keys = [testKey('EdDSA')];
  await vi.waitFor(() => expect(verifier.verifySeen(old)).toBeUndefined());
  await expect(verifier.verify(old)).rejects.toMatchObject({ code: 'key_unknown' });
});

test('an issuer that is away, or answers nonsense, takes no key away', async () => {
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
