import { afterAll, beforeAll, expect, test } from 'vitest';
import { newAddress, PASSWORD, startMailSide, startTestApp, type TestApp } from './test-app.ts';

let side: Awaited<ReturnType<typeof startMailSide>>;
let api: TestApp;
let worker: Awaited<ReturnType<typeof side.startWorker>>;

beforeAll(async () => {
  side = await startMailSide();
  [api, worker] = await Promise.all([startTestApp(side), side.startWorker()]);
});
afterAll(async () => {
  await api.close();
  await worker.stop();
  await side.stop();
});

async function activeUser(): Promise<string> {
  const email = newAddress();
  await api.register(email);
  const key = await side.activationKey(email);
  expect((await api.post(`/v1/activations/${key}`)).statusCode).toBe(200);
  return email;
}

test('a user registers, activates by the mailed key, logs in on two devices, and one logout leaves the other', async () => {
  const email = await activeUser();
  const first = await api.login(email, PASSWORD, 'phone');
  expect(first.statusCode).toBe(200);
  expect(first.json()).toMatchObject({
    token_type: 'Bearer',
    expires_in: 600,
    first_session: true,
    session: { device_name: 'phone' },
  });
  const second = (await api.login(email)).json();
  expect(second.first_session).toBe(false);
  const me = await api.get('/v1/me', second.access_token);
  expect(me.json()).toMatchObject({ email, status: 'active' });
  const ended = await api.delete('/v1/sessions/current', first.json().access_token);
  expect(ended.statusCode).toBe(204);
  expect((await api.get('/v1/verify', first.json().access_token)).statusCode).toBe(401);
  expect((await api.get('/v1/verify', second.access_token)).statusCode).toBe(200);
});
