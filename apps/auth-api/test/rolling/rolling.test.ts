/** Every instance of both apps is restarted, one after the other, behind infra/nginx and under load. ROLLING_ROUNDS: how often. */
import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { freePort } from '@latchkey/dev-stack/ports';
import { programOnPath } from '@latchkey/dev-stack/system-programs';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { activeUser } from '../accounts.ts';
import { databaseProbe } from '../mail-probe.ts';
import { startAppProcess, startMailSide, testEnvironment } from '../test-app.ts';
import { startLoad } from './load.ts';
import { startNginx } from './nginx.ts';

const nginx = programOnPath('nginx');
const ROUNDS = Number(process.env.ROLLING_ROUNDS ?? 1);
const USERS = 5;
/** What a restart is given here: longer than the second for which nginx leaves alone an instance it did not find (upstreams.conf). */
const AS_DEPLOYED = { STARTUP_WAIT_MAX_MS: '20000', SHUTDOWN_DELAY_MS: '1500' };

let side: Awaited<ReturnType<typeof startMailSide>>;
let environment: Record<string, string>;
beforeAll(async () => {
  // Slow enough that a worker told to stop always has a mail whose end it does not know.
  side = await startMailSide({}, undefined, { delay: (phase) => (phase === 'data' ? 500 : 0) });
  environment = testEnvironment(side, { RATE_LIMITS: 'off', MAX_SESSIONS_PER_USER: '100000', ...AS_DEPLOYED });
});
afterAll(() => side.stop());

test.skipIf(nginx === undefined)(
  'a rolling restart of every instance under load costs no request, and each mail comes once (needs nginx)',
  { timeout: 60_000 + ROUNDS * 120_000 },
  async () => {
    const database = databaseProbe(side.databaseUrl);
    onTestFinished(() => database.close());
    const ports = [await freePort(), await freePort()] as const;
    const startApi = (port: number) => startAppProcess('auth-api', environment, { port });
    const apis = await Promise.all(ports.map(startApi));
    const workers = await Promise.all([side.startWorker(), side.startWorker()]);
    const proxy = await startNginx(nginx ?? '', ports);
    onTestFinished(async () => {
      await proxy.stop();
      await Promise.all([...apis, ...workers].map((one) => one.stop()));
    });
    const emails = await Promise.all(Array.from({ length: USERS }, () => activeUser(side)));
    const load = await startLoad(proxy.url, emails);
    const onward = async (kind: keyof typeof load.answered) => {
      const before = load.answered[kind];
      await vi.waitFor(() => expect(load.answered[kind]).toBeGreaterThan(before), 20_000);
    };

    const restart = async (which: number) => {
      expect(await apis[which]?.stop(), load.failed.join('\n')).toEqual({ code: 0, signal: null });
      apis[which] = await startApi(ports[which] ?? 0);
      expect(load.failed).toEqual([]);
    };
    const restartApis = async (round: number) => {
      // As an orchestrator does, which tells no proxy.
      await restart(round % 2);
      // As an operator may: taken out of nginx first, and put back once it is ready.
      const other = (round + 1) % 2;
      await proxy.listOnly(ports.filter((_, which) => which !== other));
      await restart(other);
      await proxy.listOnly(ports);
    };
    const restartWorkers = async () => {
      for (const which of workers.keys()) {
        await onward('register');
        expect(await workers[which]?.stop()).toEqual({ code: 0, signal: null });
        workers[which] = await side.startWorker();
      }
    };
    for (let round = 0; round < ROUNDS; round += 1) await Promise.all([restartApis(round), restartWorkers()]);
    const registered = await load.stop();
    expect(load.failed, proxy.log()).toEqual([]);
    for (const [kind, times] of Object.entries(load.answered)) expect(times, kind).toBeGreaterThan(0);
    await vi.waitFor(async () => expect(await database.owed()).toEqual([]), { timeout: 20_000 });
    expect(registered.length).toBeGreaterThan(0);
    for (const email of registered) expect(side.mail.mails(email), email).toHaveLength(1);
  },
);

test('an instance listens once it is ready; told to stop it says so, serves on, and ends no connection unannounced', async () => {
  const { url, process } = await startAppProcess('auth-api', environment, { ready: false });
  onTestFinished(async () => void (await process.stop()));
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  const ask = async (path: string, kept?: Agent): Promise<IncomingMessage> => {
    const asking = request(url + path, { agent: kept ?? false });
    asking.end();
    const [response]: IncomingMessage[] = await once(asking, 'response');
    response?.resume();
    return response as IncomingMessage;
  };
  // The first answer there is.
  const first = await vi.waitFor(() => ask('/readyz', agent), { timeout: 40_000, interval: 5 });
  expect([first.statusCode, first.headers.connection]).toEqual([200, 'keep-alive']);

  process.signal('SIGTERM');
  await vi.waitFor(async () => expect((await ask('/readyz')).statusCode).toBe(503), { timeout: 1000, interval: 5 });
  expect(((await (await fetch(`${url}/readyz`)).json()) as { checks: object }).checks).toMatchObject({
    postgresql: { status: 'up' },
    staying: { status: 'down', reason: expect.stringContaining('told to stop') },
  });
  // On new connections, and not the last on the kept one.
  expect((await ask('/.well-known/jwks.json')).statusCode).toBe(200);
  const kept = await ask('/.well-known/jwks.json', agent);
  expect([kept.statusCode, kept.headers.connection]).toEqual([200, 'keep-alive']);

  await vi.waitFor(() => expect(ask('/livez')).rejects.toMatchObject({ code: 'ECONNREFUSED' }), {
    timeout: 10_000,
    interval: 5,
  });
  const last = await ask('/.well-known/jwks.json', agent);
  expect([last.statusCode, last.headers.connection]).toEqual([200, 'close']);
  expect(await process.ended).toEqual({ code: 0, signal: null });
});
