/** `infra/redis/users.acl` is enough for each app, and for no more; on a server configured as the page beside it says. */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '@latchkey/dev-stack/processes';
import { type RunningRedis, startRedis } from '@latchkey/dev-stack/redis';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { revocationsInRedis } from '@latchkey/verifier/redis';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { decoded, registeredUser } from '../accounts.ts';
import { addClient, clientToken } from '../clients.ts';
import { databaseProbe } from '../mail-probe.ts';
import { newAddress, startMailSide, startTestApp, type TestApp } from '../test-app.ts';
import { HEALS_WITHIN, wholeFlow } from './flow.ts';

const keys = redisKeys();
const passwordOf = (user: string) => `secret-of-${user}`;

let redis: RunningRedis;
let side: Awaited<ReturnType<typeof startMailSide>>;
let worker: Awaited<ReturnType<typeof side.startWorker>>;
let api: TestApp;

const urlFor = (user: string) => redis.url.replace('//', `//${user}:${passwordOf(user)}@`);

beforeAll(async () => {
  // As infra/redis/README.md says it.
  const users = readFileSync(join(repositoryRoot, 'infra/redis/users.acl'), 'utf8').replace(
    /^user (latchkey-[\w-]+) on/gm,
    (line, user: string) => `${line} #${createHash('sha256').update(passwordOf(user)).digest('hex')}`,
  );
  const folder = temporaryFolder('acl');
  const aclFile = join(folder, 'users.acl');
  writeFileSync(aclFile, `${users}user operator on >${passwordOf('operator')} ~* &* +@all\n`);
  const readme = readFileSync(join(repositoryRoot, 'infra/redis/README.md'), 'utf8');
  const [, configuration = ''] = /^## redis\.conf\n+```\n(.*?)^```/ms.exec(readme) ?? [];
  expect(configuration).toContain('/etc/redis/users.acl');
  const config = join(folder, 'redis.conf');
  // But for what holds where there is a replica.
  writeFileSync(config, configuration.replace('/etc/redis/users.acl', aclFile).replace(/^min-replicas-.*/gm, ''));
  redis = await startRedis({ config, args: ['--repl-diskless-sync-delay', '0'] });
  side = await startMailSide(
    { REDIS_URL: urlFor('latchkey-mailer-worker') },
    { url: urlFor('latchkey-auth-api'), stop: () => redis.stop() },
  );
  [api, worker] = await Promise.all([startTestApp(side), side.startWorker()]);
});
afterAll(async () => {
  await Promise.all([api.close(), worker.stop()]);
  await side.stop();
});

function connectAs(user: string): Redis {
  const connection = new Redis(urlFor(user), { enableReadyCheck: false });
  onTestFinished(() => connection.disconnect());
  return connection;
}

test('the whole way of an account, a new password, an operator and a verifier outside need nothing that is refused', async () => {
  const revocations = revocationsInRedis({ redis: urlFor('latchkey-verifier') });
  onTestFinished(() => revocations.close());
  await wholeFlow(api, side);

  const email = await registeredUser(api, side);
  await api.post('/v1/password-resets', { email });
  const { text } = await side.mail.waitFor(email, { count: 2 });
  const key = /\/reset-password\/([A-Za-z0-9]{32})/.exec(text)?.[1];
  const new_password = 'another horse battery staple';
  expect((await api.post(`/v1/password-resets/${key}`, { new_password })).statusCode).toBe(204);

  const { access_token } = (await api.login(email, new_password)).json();
  const { sub, sid, jti } = decoded(access_token).claims as { sub: string; sid: string; jti: string };
  await vi.waitFor(() => expect(revocations.fresh()).toBe(true), HEALS_WITHIN);
  const admin = await clientToken(api, await addClient(api.databaseUrl, 'admin'));
  const act = (method: 'PUT' | 'DELETE' | 'POST', path: string, payload?: object) =>
    api.call(method, `/v1/admin${path}`, payload, { authorization: `Bearer ${admin}` });
  expect((await act('PUT', `/users/${sub}/suspension`, {})).statusCode).toBe(200);
  const identity = { userId: sub, sessionId: sid, issuedAt: Date.now() * 1000, jti };
  await vi.waitFor(() => expect(revocations.denies({ ...identity, issuedAt: 0 })).toBe(true), HEALS_WITHIN);
  expect((await act('DELETE', `/users/${sub}`)).statusCode).toBe(204);

  // The first mail is withdrawn for the second.
  const pending = newAddress();
  await api.register(pending);
  await api.post('/v1/activations', { email: pending });
  const probe = databaseProbe(side.databaseUrl);
  await probe.settled();
  await probe.close();
  const metrics = await fetch(`${worker.url}/metrics`);
  expect(await metrics.text()).toContain('latchkey_');
  expect(await connectAs('operator').call('ACL', 'LOG')).toEqual([]);
});

const SESSION = keys.session('00000000-0000-4000-8000-000000000000', 'AAAAAAAAAAAAAAAAAAAAAA');

test.each([
  ['latchkey-auth-api', ['SET', keys.activationKey('x'), '{}']],
  ['latchkey-auth-api', ['GET', keys.mailLedger('x')]],
  ['latchkey-auth-api', ['GET', 'of-somebody-else']],
  ['latchkey-auth-api', ['SCAN', '0']],
  ['latchkey-mailer-worker', ['GET', keys.activationKey('x')]],
  ['latchkey-mailer-worker', ['HGETALL', SESSION]],
  ['latchkey-mailer-worker', ['XADD', keys.revocations, '*', 'sid', 'x']],
  ['latchkey-mailer-worker', ['EVAL', "return redis.call('DEL', KEYS[1])", '1', keys.epoch]],
  ['latchkey-mailer-worker', ['SCAN', '0']],
  ['latchkey-verifier', ['XADD', keys.revocations, '*', 'sid', 'x']],
  ['latchkey-verifier', ['DEL', keys.revocations]],
  ['latchkey-verifier', ['HSET', keys.epoch, 'id', 'x']],
  ['latchkey-verifier', ['HMGET', SESSION, 'created']],
  ['latchkey-verifier', ['EVAL', 'return 1', '0']],
  ['latchkey-replica', ['GET', SESSION]],
  ...['latchkey-auth-api', 'latchkey-mailer-worker', 'latchkey-verifier'].flatMap((user): [string, string[]][] => [
    [user, ['KEYS', '*']],
    [user, ['FLUSHALL']],
    [user, ['CONFIG', 'GET', '*']],
    [user, ['ACL', 'LIST']],
    [user, ['REPLICAOF', 'NO', 'ONE']],
    [user, ['MONITOR']],
    [user, ['SUBSCRIBE', 'x']],
  ]),
] satisfies [string, string[]][])('%s is refused %j', async (user, [command = '', ...args]) => {
  await expect(connectAs(user).call(command, ...args)).rejects.toThrow(/^NOPERM/);
});

test('whoever does not log in gets nothing', async () => {
  const stranger = new Redis(redis.url, { enableReadyCheck: false });
  onTestFinished(() => stranger.disconnect());
  await expect(stranger.get('latchkey:x')).rejects.toThrow(/^NOAUTH/);
});

test('a replica that logs in as one gets in step', async () => {
  const [user, password] = ['latchkey-replica', passwordOf('latchkey-replica')];
  const login = ['--masteruser', user, '--masterauth', password];
  const replica = await startRedis({ args: ['--replicaof', `127.0.0.1 ${redis.port}`, ...login] });
  onTestFinished(() => replica.stop());
  const asked = new Redis(replica.url, { enableReadyCheck: false });
  onTestFinished(() => asked.disconnect());
  await vi.waitFor(
    async () => expect(await asked.info('replication')).toContain('master_link_status:up'),
    HEALS_WITHIN,
  );
});
