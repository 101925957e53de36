/** Redis over TLS: the certificate is checked, and nothing is said to a server that has none of ours. */
import { freePort } from '@latchkey/dev-stack/ports';
import { temporaryFolder } from '@latchkey/dev-stack/processes';
import { startRedis } from '@latchkey/dev-stack/redis';
import { programOnPath } from '@latchkey/dev-stack/system-programs';
import { testCertificates } from '@latchkey/dev-stack/test-certificates';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { describe, expect, inject, onTestFinished, test, vi } from 'vitest';
import { PUBLIC_URL, startAppProcess, testEnvironment } from '../test-app.ts';
import { HEALS_WITHIN } from './flow.ts';

describe.skipIf(programOnPath('openssl') === undefined)('Redis over TLS', () => {
  test('both apps work with it once they know its CA, and until then refuse to talk to it', async () => {
    const { ca, certificate, key } = testCertificates(temporaryFolder('tls'));
    const port = await freePort();
    const tls = ['--tls-port', String(port), '--tls-cert-file', certificate, '--tls-key-file', key];
    const redis = await startRedis({ args: [...tls, '--tls-ca-cert-file', ca, '--tls-auth-clients', 'no'] });
    onTestFinished(() => redis.stop());
    const redisUrl = `rediss://127.0.0.1:${port}`;
    const database = await createTestDatabase(inject('databaseUrl'));
    onTestFinished(() => database.drop());
    const apiEnv = testEnvironment({ databaseUrl: database.url, redisUrl });
    const workerEnv = { REDIS_URL: redisUrl, SMTP_URL: 'smtp://127.0.0.1:1', MAIL_FROM: 'a@example.test', PUBLIC_URL };

    const apps = await Promise.all([
      startAppProcess('auth-api', { ...apiEnv, NODE_EXTRA_CA_CERTS: ca }, { ready: false }),
      startAppProcess('mailer-worker', { ...workerEnv, NODE_EXTRA_CA_CERTS: ca }, { ready: false }),
      startAppProcess('mailer-worker', workerEnv, { ready: false }),
    ]);
    onTestFinished(async () => {
      await Promise.all(apps.map((app) => app.stop()));
    });
    const [api, worker, stranger] = apps;
    const redisOf = async ({ url }: typeof api): Promise<string> => {
      const response = await fetch(`${url}/readyz`);
      const { checks } = (await response.json()) as { checks: { redis: string | { status: string } } };
      return typeof checks.redis === 'string' ? checks.redis : checks.redis.status;
    };
    for (const app of [api, worker]) await vi.waitFor(async () => expect(await redisOf(app)).toBe('up'), HEALS_WITHIN);
    await vi.waitFor(() => expect(stranger.output.join('\n')).toMatch(/unable to verify|self-signed/), HEALS_WITHIN);
    // It may say so before it listens.
    await vi.waitFor(async () => expect(await redisOf(stranger)).toBe('down'), HEALS_WITHIN);
  });
});
