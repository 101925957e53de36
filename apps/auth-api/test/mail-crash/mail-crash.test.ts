/**
 * kill -9 of each part at each step of a mail's way, from the commit to the end of its row. Zero lost; twice only from the window between the
 * mail server's 250 and our note of it, then with one Message-ID; every mailed link works. A mail of a killed worker goes on during later
 * runs and may be hit by their kills, so what is allowed is not asked of a run but of the wires, for every mail (data-watch.ts).
 *
 * MAIL_CRASH_RUNS=500 runs the whole matrix, in order and round by round; without it a sample, MAIL_CRASH_SEED says which (default: the day).
 */
import { startCountingMailServer } from '@latchkey/dev-stack/counting-mail-server';
import type { SupervisedProcess } from '@latchkey/dev-stack/processes';
import { startRedis } from '@latchkey/dev-stack/redis';
import { createTestDatabase } from '@latchkey/dev-stack/test-database';
import { forget, keysOf } from '@latchkey/dev-stack/test-redis';
import { MAIL_QUEUE } from '@latchkey/shared/mail-jobs';
import { connectRedis } from '@latchkey/shared/redis-connections';
import { redisKeys } from '@latchkey/shared/redis-keys';
import { expect, inject, onTestFinished, test } from 'vitest';
import { databaseProbe, keyIn } from '../mail-probe.ts';
import { type OwnApi, startApi } from '../outage-probe.ts';
import { newAddress, startAppProcess, testEnvironment } from '../test-app.ts';
import { watchData } from './data-watch.ts';
import { type Followed, follow, type Link, type Track, tracks } from './steps.ts';
import { startWire } from './wire.ts';

const SAMPLE = 10;
const RUNS = Number(process.env.MAIL_CRASH_RUNS ?? SAMPLE);
/** Runs of which no more can be said: their step did not come. */
const FEW = RUNS * 0.1;
const SEED = Number(process.env.MAIL_CRASH_SEED ?? Math.floor(Date.now() / 86_400_000));
/** Milliseconds: a killed worker's mail is taken up at the next look for such, and on a busy machine everything starts slowly. */
const SETTLES_WITHIN = 120_000;
/** Milliseconds in which a step comes, if it comes: a mail may have to wait for a retry first (5 s), and a part for its restart. */
const STEP_WITHIN = 20_000;

const VICTIMS = ['api', 'worker', 'redis', 'smtp'] as const;
type Victim = (typeof VICTIMS)[number];

/** Who sees a link break. */
const ENDS: Readonly<Record<Link, readonly Victim[]>> = {
  'api-postgresql': ['api'],
  'api-redis': ['api', 'redis'],
  'worker-redis': ['worker', 'redis'],
  'worker-smtp': ['worker', 'smtp'],
};

interface Kill {
  readonly track: Track;
  readonly step: string;
  readonly victim: Victim;
  /** Whether what was on the wire at that moment arrives. */
  readonly arrives: boolean;
}

/** Every step, every victim, arriving and not. */
function matrix(): Kill[] {
  return Object.entries(tracks).flatMap(([track, steps]) =>
    steps.flatMap(({ name, link }) =>
      VICTIMS.flatMap((victim) =>
        // What does not arrive is lost with an end of the wire; who is none of its ends does not touch it.
        (ENDS[link].includes(victim) ? [true, false] : [true]).map((arrives) => ({
          track: track as Track,
          step: name,
          victim,
          arrives,
        })),
      ),
    ),
  );
}

/** So many of them, by the seed (mulberry32); for more than there are, all of them again and again. */
function chosen(kills: readonly Kill[], runs: number, seed: number): Kill[] {
  let state = seed;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const shuffled = kills
    .map((kill) => ({ kill, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ kill }) => kill);
  return Array.from({ length: runs }, (_, run) => shuffled[run % shuffled.length]).filter((kill) => kill !== undefined);
}

/** The parts, each with a wire to what it talks to, and each to be killed and started again. */
async function startParts() {
  let watch: ReturnType<typeof follow> = () => true;
  const data = watchData();
  const wire = (link: Link, port: number) =>
    startWire(link, port, (chunk) => {
      const arrives = watch(chunk);
      if (arrives) data.see(chunk);
      return arrives;
    });

  const database = await createTestDatabase(inject('databaseUrl'));
  // What Redis has answered is in its file: a killed one has lost nothing of it.
  const redis = await startRedis({ args: ['--appendonly', 'yes'] });
  const state = connectRedis(redis.url, 'queueWorker', () => undefined);
  const smtp = await startCountingMailServer();
  const postgresql = new URL(database.url);
  const wires = {
    sql: await wire('api-postgresql', Number(postgresql.port)),
    apiRedis: await wire('api-redis', redis.port),
    workerRedis: await wire('worker-redis', redis.port),
    smtp: await wire('worker-smtp', smtp.port),
  };
  postgresql.hostname = '127.0.0.1';
  postgresql.port = String(wires.sql.port);

  const environment = testEnvironment(
    { databaseUrl: postgresql.href, redisUrl: `redis://127.0.0.1:${wires.apiRedis.port}` },
    { RATE_LIMITS: 'off' },
  );
  const workerEnvironment = {
    ...environment,
    REDIS_URL: `redis://127.0.0.1:${wires.workerRedis.port}`,
    SMTP_URL: `smtp://127.0.0.1:${wires.smtp.port}`,
    MAIL_FROM: 'Latchkey <no-reply@example.test>',
  };
  let [api, worker] = await Promise.all([startApi(environment), startAppProcess('mailer-worker', workerEnvironment)]);

  async function died(process: SupervisedProcess): Promise<void> {
    process.signal('SIGKILL');
    await process.ended;
  }

  return {
    data,
    database: databaseProbe(database.url),
    api: (): OwnApi => api,

    follow(mail: Followed, onStep: Parameters<typeof follow>[1]): void {
      watch = follow(mail, onStep);
    },
    followNone(): void {
      watch = () => true;
    },

    /** Kills at once. @returns what starts it again. */
    kill: {
      api: () => {
        const gone = died(api.process);
        return async () => {
          await gone;
          api = await startApi(environment);
        };
      },
      worker: () => {
        const gone = died(worker.process);
        return async () => {
          await gone;
          // Time is given as an argument: the dead worker's locks are over now, not in 20 s (the worker's process.test.ts waits for one).
          await forget(state, await keysOf(state, `${redisKeys().mailQueuePrefix}:${MAIL_QUEUE}:*:lock`));
          worker = await startAppProcess('mailer-worker', workerEnvironment);
        };
      },
      redis: () => {
        const gone = redis.kill();
        return async () => {
          await gone;
          await redis.start();
          await api.becomesReady();
        };
      },
      smtp: () => {
        const gone = smtp.kill();
        return async () => {
          await gone;
          smtp.start();
        };
      },
    } satisfies Record<Victim, () => () => Promise<void>>,

    /** What the mail server has taken, by address. */
    accepted(): Map<string, { messageId: string; key: string }[]> {
      const byAddress = new Map<string, { messageId: string; key: string }[]>();
      for (const { to, messageId, raw } of smtp.mails()) {
        // Quoted-printable breaks lines.
        const key = keyIn({ text: raw.replaceAll('=\r\n', '') }) ?? '';
        byAddress.set(to, [...(byAddress.get(to) ?? []), { messageId, key }]);
      }
      return byAddress;
    },

    async stop(): Promise<void> {
      for (const one of Object.values(wires)) one.close();
      state.disconnect();
      await Promise.all([api.stop(), worker.stop(), smtp.stop(), redis.stop()]);
      await this.database.close();
      await database.drop();
    },
  };
}

test(`${RUNS} kills between commit and acknowledgement lose no mail`, { timeout: 60_000 + RUNS * 15_000 }, async () => {
  const parts = await startParts();
  onTestFinished(() => parts.stop());
  const kills = chosen(matrix(), RUNS, SEED);
  const runs: (Kill & { to: string; answered: boolean; reached: boolean })[] = [];

  for (const kill of kills) {
    const to = newAddress();
    const struck = Promise.withResolvers<() => Promise<void>>();
    let reached = false;
    parts.follow({ to, id: undefined }, (track, step) => {
      if (reached || track !== kill.track || step !== kill.step) return true;
      reached = true;
      struck.resolve(parts.kill[kill.victim]());
      parts.data.disturbed();
      return kill.arrives;
    });
    const registering = parts
      .api()
      .register(to)
      .then(
        ({ status }) => status === 202,
        () => false,
      );
    const late = setTimeout(() => struck.resolve(async () => undefined), STEP_WITHIN);
    const revive = await struck.promise;
    clearTimeout(late);
    await revive();
    parts.data.disturbed();
    parts.followNone();
    runs.push({ ...kill, to, answered: await registering, reached });
  }

  await parts.database.settled(SETTLES_WITHIN);
  const accepted = parts.accepted();
  const doubled = runs.filter(({ to }) => (accepted.get(to)?.length ?? 0) > 1);
  const reached = runs.filter((run) => run.reached).length;
  const missed = runs.filter((run) => !run.reached);
  process.stdout.write(
    `mail crash matrix: seed ${SEED}, ${matrix().length} different kills, ${RUNS} runs, ${reached} at their step, ` +
      `${runs.filter(({ answered }) => answered).length} answered, ${doubled.length} mailed twice` +
      `${doubled.map(({ victim, step, arrives }) => `\n  ${victim} at ${step}, ${arrives ? 'arrived' : 'lost'}`).join('')}` +
      `${missed.map(({ victim, step }) => `\n  not reached: ${victim} at ${step}`).join('')}\n`,
  );
  expect(runs.filter(({ to, answered }) => answered && !accepted.has(to))).toEqual([]);
  expect(parts.data.afterAcceptance).toEqual([]);
  expect(parts.data.unprovoked).toEqual([]);
  expect(parts.data.noted.size).toBeGreaterThanOrEqual(accepted.size - FEW);
  expect(missed.length).toBeLessThanOrEqual(FEW);
  for (const [to, mails] of accepted) {
    const [messageId = ''] = mails.map((mail) => mail.messageId);
    expect(
      mails.map((mail) => mail.messageId),
      to,
    ).toEqual(mails.map(() => messageId));
    for (const { key } of mails)
      expect(await parts.api().get(`/v1/activations/${key}`), to).toMatchObject({ status: 200 });
    expect(await parts.api().post(`/v1/activations/${mails[0]?.key}`), to).toMatchObject({ status: 200 });
  }
});
