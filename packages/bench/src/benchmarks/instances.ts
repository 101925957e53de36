/** What a verification costs in CPU time: against hello, and with more instances, which requests per second on shared cores cannot show. */
import { setTimeout as delay } from 'node:timers/promises';
import { StackFailure } from '@latchkey/dev-stack/stack-failure';
import { CONNECTIONS, sayHello } from '../hello.ts';
import { load } from '../http-load.ts';
import type { Row } from '../report.ts';
import { compare, type Sample } from '../rounds.ts';
import type { Program, Stand } from '../stand.ts';
import { verifyRequests, WARM_UPS } from './verify.ts';

const ROUNDS = 3;
/** Milliseconds between two looks at whether what stood still is ready again. */
const LOOK_EVERY = 20;
/** Milliseconds. */
const READY_WITHIN = 10_000;

/** So many verifications or hellos for each second of CPU time: flat is 1. */
export async function benchInstances(stand: Stand): Promise<Row[]> {
  const caller = await verifyRequests(stand, 'jwt');
  const verify = ({ url }: Program) => load({ url, connections: CONNECTIONS, seconds: stand.seconds, caller });
  const verifying = (programs: readonly Program[]) => () => perCpuSecond(programs, verify);
  const alone = verifying([stand.api]);
  for (let run = 1; run < WARM_UPS; run += 1) await alone();
  const rows: Row[] = [
    {
      name: 'verify_cpu',
      what: 'GET /v1/verify per second of CPU',
      against: 'Fastify hello',
      ...(await compare(stand.rounds(ROUNDS), helloPerCpuSecond(stand), alone)),
    },
  ];
  const others: Program[] = [];
  for (const count of [2, 3]) {
    const another = await stand.anotherApi();
    for (let run = 1; run < WARM_UPS; run += 1) await verify(another);
    others.push(another);
    rows.push({
      name: `verify_cpu_${count}`,
      what: `GET /v1/verify per second of CPU, ${count} instances`,
      against: 'one instance',
      ...(await compare(stand.rounds(ROUNDS), without(others, alone), verifying([stand.api, ...others]))),
    });
  }
  await Promise.all(others.map((program) => program.stop()));
  return rows;
}

/** The same while these stand still, as if they were not there. */
const without = (others: readonly Program[], run: () => Promise<Sample>) => async () => {
  for (const other of others) other.freeze();
  try {
    return await run();
  } finally {
    for (const other of others) other.thaw();
    await Promise.all(others.map(ready));
  }
};

/** @throws StackFailure when it is not within {@link READY_WITHIN}. */
async function ready({ url }: Program): Promise<void> {
  const until = performance.now() + READY_WITHIN;
  for (;;) {
    const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(READY_WITHIN) });
    await response.text();
    if (response.ok) return;
    if (performance.now() > until) throw new StackFailure(`${url} is not ready after it stood still`);
    await delay(LOOK_EVERY);
  }
}

/** The baseline. */
export const helloPerCpuSecond =
  ({ hello, seconds }: Stand) =>
  async () =>
    perCpuSecond([await hello()], ({ url }) => sayHello(url, seconds));

/**
 * All of them run, and each is loaded in its turn, as it would be on a core of its own. At once, more of them than cores are free would push
 * each other off: that costs CPU time whatever they are.
 */
async function perCpuSecond(programs: readonly Program[], run: (program: Program) => Promise<Sample>): Promise<Sample> {
  const before = await Promise.all(programs.map(usage));
  for (const program of programs) await run(program);
  const after = await Promise.all(programs.map(usage));
  const difference = (of: keyof Usage) =>
    after.reduce((sum, one, index) => sum + one[of] - (before[index]?.[of] ?? 0), 0);
  return { perSecond: difference('requests') / difference('cpuSeconds') };
}

/** By the program's own metrics, in the name of prom-client. */
export const cpuSecondsOf = async (program: Program): Promise<number> => (await usage(program)).cpuSeconds;

type Usage = { readonly requests: number; readonly cpuSeconds: number };

/** By its own metrics, in the names of prom-client and of auth-api. */
async function usage({ url }: Program): Promise<Usage> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const value = (name: string) => Number(new RegExp(`^${name} ([\\d.e+-]+)$`, 'm').exec(text)?.[1] ?? 0);
  return {
    cpuSeconds: value('process_cpu_seconds_total'),
    requests: value(
      'latchkey_http_request_duration_seconds_count\\{route="(?:/v1/verify|/)",method="GET",status="200"\\}',
    ),
  };
}
