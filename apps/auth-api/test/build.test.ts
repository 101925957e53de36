import { expect, onTestFinished, test } from 'vitest';
import {
  newAddress,
  PASSWORD,
  sdkModules,
  startAppProcess,
  startMailSide,
  TELLS_MODULES,
  testEnvironment,
} from './test-app.ts';

test('the production builds run, each from its own environment: with the files they read and the threads they start, and with nothing loaded or logged of traces, which are off', async () => {
  const side = await startMailSide({ NODE_OPTIONS: TELLS_MODULES });
  onTestFinished(() => side.stop());
  const worker = await side.startWorker();
  onTestFinished(async () => void (await worker.stop()));
  const api = await startAppProcess('auth-api', testEnvironment(side, { NODE_OPTIONS: TELLS_MODULES }));
  onTestFinished(async () => void (await api.stop()));

  const post = async (path: string, body: object = {}) =>
    fetch(api.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const email = newAddress();
  expect((await post('/v1/users', { email, password: PASSWORD })).status).toBe(202);
  const key = await side.activationKey(email);
  const page = await fetch(`${api.url}/activate/${key}`);
  expect(page.status).toBe(200);
  const assets = [...(await page.text()).matchAll(/(?:href|src)="(\/assets\/[^"]+)"/g)].map(([, path]) => path);
  expect(assets.length).toBeGreaterThanOrEqual(2);
  for (const path of assets) expect((await fetch(api.url + path)).status, path).toBe(200);
  expect((await post(`/v1/activations/${key}`)).status).toBe(200);
  const login = await post('/v1/tokens', { email, password: PASSWORD });
  const { access_token, refresh_token } = (await login.json()) as { access_token: string; refresh_token: string };
  expect((await fetch(`${api.url}/v1/verify`, { headers: { authorization: `Bearer ${access_token}` } })).status).toBe(
    200,
  );
  expect((await post('/v1/tokens/refresh', { refresh_token })).status).toBe(200);
  expect((await fetch(`${api.url}/docs/`)).status).toBe(200);

  await Promise.all([api.stop(), worker.stop()]);
  for (const { output } of [api, worker]) {
    expect(output.filter((line) => line.startsWith('LOADED')).length, 'the hook works').toBeGreaterThan(0);
    expect(sdkModules(output)).toEqual([]);
    expect(output.filter((line) => line.includes('trace_id'))).toEqual([]);
  }
});

test('a process that is told to stop finishes the request it works on', async () => {
  const side = await startMailSide();
  onTestFinished(() => side.stop());
  const api = await startAppProcess('auth-api', testEnvironment(side));
  const email = newAddress();
  // Connections that are there: of one that is just being made nobody can say whether its request has come.
  await Promise.all(Array.from({ length: 20 }, async () => (await fetch(`${api.url}/livez`)).text()));
  // Hashing takes long enough for the signal to arrive while it runs.
  const answers = Array.from({ length: 20 }, (_, index) =>
    fetch(`${api.url}/v1/users`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ email: `${index}-${email}`, password: PASSWORD }),
    }),
  );
  await Promise.race(answers);
  const ended = api.process.stop();
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 202));
  expect((await ended).code).toBe(0);
});
