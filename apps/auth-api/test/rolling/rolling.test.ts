/** Every instance of both apps is restarted, one after the other, behind infra/nginx and under load. ROLLING_ROUNDS: how often. */
import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
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
const AS_DEPLOYED = { STARTUP_WAIT_MAX_MS: '20000', SHUTDOWN_DELAY_MS: '3000' };

let side: Awaited<ReturnType<typeof startMailSide>>;
let environment: Record<string, string>;
beforeAll(async () => {
  // Slow enough that a worker told to stop always has a mail whose end it does not know.
  side = await startMailSide({}, undefined, { delay: (phase) => (phase === 'data' ? 500 : 0) });
  environment = testEnvironment(side, { RATE_LIMITS: 'off', MAX_SESSIONS_PER_USER: '100000', ...AS_DEPLOYED });
});
afterAll(() => side.stop());

/** An instance that starts: the first answer there is says that it is ready. */
async function comesReady(url: string): Promise<void> {
  const { status } = await vi.waitFor(() => fetch(`${url}/readyz`, { headers: { connection: 'close' } }), {
    timeout: 40_000,
    interval: 5,
  });
  expect(status).toBe(200);
}

/** An instance that is told to stop: it says so, serves on, and ends no connection unannounced. */
async function leaves({ url, process }: Awaited<ReturnType<typeof startAppProcess>>): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = async (path: string, kept?: Agent) => {
    const asking = request(url + path, { agent: kept ?? false });
    asking.end();
    const [response]: IncomingMessage[] = await once(asking, 'response');
    const body = response ? await text(response) : '';
    return { status: response?.statusCode, connection: response?.headers.connection, body };
  };
  const patience = { timeout: 20_000, interval: 5 };
  const kept = () => ask('/.well-known/jwks.json', agent);
  try {
    expect(await kept()).toMatchObject({ status: 200, connection: 'keep-alive' });
    process.signal('SIGTERM');
    const said = await vi.waitFor(async () => {
      const answer = await ask('/readyz');
      expect(answer.status).toBe(503);
      return JSON.parse(answer.body) as { checks: object };
    }, patience);
    expect(said.checks).toMatchObject({
      postgresql: { status: 'up' },
      staying: { status: 'down', reason: expect.stringContaining('told to stop') },
    });
    // On new connections too, and not the last on the kept one.
    expect(await ask('/.well-known/jwks.json')).toMatchObject({ status: 200 });
    expect(await kept()).toMatchObject({ status: 200, connection: 'keep-alive' });
    await vi.waitFor(() => expect(ask('/livez')).rejects.toMatchObject({ code: 'ECONNREFUSED' }), patience);
    expect(await kept()).toMatchObject({ status: 200, connection: 'close' });
  } finally {
    agent.destroy();
  }
}

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
      const api = apis[which] as Awaited<ReturnType<typeof startApi>>;
      await leaves(api);
      expect(await api.process.ended, load.failed.join('\n')).toEqual({ code: 0, signal: null });
      const started = await startAppProcess('auth-api', environment, { port: ports[which] ?? 0, ready: false });
      apis[which] = started;
      await comesReady(started.url);
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
