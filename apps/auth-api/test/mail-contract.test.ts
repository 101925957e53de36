/** The previous release's worker takes what this release's API owes (the other way round: mailer-worker's previous-release test). */
import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { MAIL_JOB_NAMES } from '@latchkey/shared/mail-jobs';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { expect, onTestFinished, test } from 'vitest';
import { logIn } from './accounts.ts';
import { databaseProbe } from './mail-probe.ts';
import { newAddress, PASSWORD, testApp } from './test-app.ts';

const file = `${repositoryRoot}/packages/shared/test/fixtures/previous-mail-contract.json`;
const { takes }: { takes: Record<string, TSchema> } = JSON.parse(readFileSync(file, 'utf8'));

test('every mail this release owes is one the previous release sends', async () => {
  const namespace = 'latchkey:test-mail-contract';
  const api = await testApp({ namespace, env: { RATE_LIMITS: 'off' } });
  const database = databaseProbe(api.databaseUrl);
  const redis = connectRedis(api.redisUrl, 'store', () => undefined);
  onTestFinished(async () => {
    redis.disconnect();
    await database.close();
  });
  const owed = new Map<string, { name: string; payload: Record<string, unknown> }>();
  const note = async () => {
    for (const { id, ...mail } of await database.owed()) owed.set(id, mail);
  };

  const [email, twice, next] = [newAddress(), newAddress(), newAddress()];
  for (const address of [email, twice, twice]) await api.register(address);
  await note();
  await api.post('/v1/activations', { email: twice });
  await database.rows(`UPDATE users SET status = 'active' WHERE email = $1`, [email]);
  await api.register(email);
  await api.post('/v1/password-resets', { email });
  await note();
  const bearer = async () => ({ authorization: `Bearer ${(await logIn(api, email)).access_token}` });
  await api.call('PUT', '/v1/me/email', { current_password: PASSWORD, new_email: next }, await bearer());
  await note();
  const change = [...owed.values()].find(({ name, payload }) => name === 'email_change' && payload.to === next);
  const { user_id, attempt } = change?.payload ?? {};
  const key = 'k'.repeat(32);
  const meaning = JSON.stringify({ user_id, attempt, renewal_ms: 1000 });
  await redis.set(redisKeys(namespace).emailChangeKey(hash('sha256', key, 'base64url')), meaning, 'PX', 60_000);
  expect((await api.post(`/v1/email-changes/${key}`)).statusCode).toBe(200);
  const wanted = { current_password: PASSWORD, new_password: `another ${PASSWORD}` };
  const changed = { authorization: `Bearer ${(await logIn(api, next)).access_token}` };
  expect((await api.call('PUT', '/v1/me/password', wanted, changed)).statusCode).toBe(204);
  await note();

  const mails = [...owed.values()];
  expect(new Set(mails.map(({ name }) => name))).toEqual(new Set(MAIL_JOB_NAMES));
  expect(mails.some(({ payload }) => payload.several === true)).toBe(true);
  for (const { name, payload } of mails) {
    const schema = takes[name];
    expect(schema, name).toBeDefined();
    if (schema !== undefined) expect(Compile(schema).Errors(payload), name).toEqual([]);
  }
});
