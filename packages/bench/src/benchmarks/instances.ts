/** What a verification costs in CPU time: against hello, and with more instances, which requests per second on shared cores cannot show. */
import { CONNECTIONS, sayHello } from '../hello.ts';
import { load } from '../http-load.ts';
import type { Row } from '../report.ts';
import { compare, median, type Sample } from '../rounds.ts';
import type { Program, Stand } from '../stand.ts';
import { verifyRequests, WARM_UPS } from './verify.ts';

const ROUNDS = 3;

/** So many verifications or hellos for each second of CPU time: flat is 1. */
export async function benchInstances(stand: Stand): Promise<Row[]> {
  const caller = await verifyRequests(stand, 'jwt');
  const apis = [stand.api];
  const verify = ({ url }: Program) => load({ url, connections: CONNECTIONS, seconds: stand.seconds, caller });
  const verifying = () => perCpuSecond(apis, verify);
  const againstHello = () => compare(stand.rounds(ROUNDS), helloPerCpuSecond(stand), verifying);

  const alone = await againstHello();
  const rows: Row[] = [
    { name: 'verify_cpu', what: 'GET /v1/verify per second of CPU', against: 'Fastify hello', ...alone },
  ];
  for (const count of [2, 3]) {
    const another = await stand.anotherApi();
    for (let run = 1; run < WARM_UPS; run += 1) await verify(another);
    apis.push(another);
    const together = await againstHello();
    // The one was alone, so they can't be measured by turns; hello was there both times.
    const ratios = together.ratios.map((ratio) => ratio / alone.ratio);
    rows.push({
      name: `verify_cpu_${count}`,
      what: `GET /v1/verify per second of CPU, ${count} instances`,
      against: 'one instance',
      measured: together.measured,
      baseline: alone.measured,
      ratios,
      ratio: median(ratios),
    });
  }
  await Promise.all(apis.slice(1).map((program) => program.stop()));
  return rows;
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
