/** `npm run bench`: measures, says how, and leaves nothing running. The result goes to standard output, the progress to standard error. */
import { stopAllProcesses } from '@latchkey/dev-stack/processes';
import { createProgress, elapsed, type Progress } from '@latchkey/dev-stack/progress';
import { StackFailure } from '@latchkey/dev-stack/stack-failure';
import { stopRequestOfProcess } from '@latchkey/dev-stack/stop-request';
import { benchFeed } from './benchmarks/feed.ts';
import { benchInProcess, benchWindow } from './benchmarks/in-process.ts';
import { benchInstances } from './benchmarks/instances.ts';
import { benchMail } from './benchmarks/mail.ts';
import { benchMemory } from './benchmarks/memory.ts';
import { benchLogin, benchRegistration } from './benchmarks/passwords.ts';
import { benchRefresh } from './benchmarks/refresh.ts';
import { benchRevocation } from './benchmarks/revocation.ts';
import { benchStorm } from './benchmarks/storm.ts';
import { benchIntrospection, benchOpaque, benchVerify } from './benchmarks/verify.ts';
import { type Benchmark, type Options, readOptions, USAGE } from './options.ts';
import { asJson, asTable, machine, type Row } from './report.ts';
import { type Stand, startStand } from './stand.ts';

const benchmarks: Readonly<Record<Benchmark, (stand: Stand) => Promise<Row[]>>> = {
  verify: benchVerify,
  opaque: benchOpaque,
  introspection: benchIntrospection,
  instances: benchInstances,
  'in-process': benchInProcess,
  window: benchWindow,
  revocation: benchRevocation,
  feed: benchFeed,
  refresh: benchRefresh,
  registration: benchRegistration,
  login: benchLogin,
  storm: benchStorm,
  mail: benchMail,
  memory: benchMemory,
};

/** As shells say it: 128 and the number of SIGINT. */
const INTERRUPTED = 130;

const stop = stopRequestOfProcess();
process.exit(await main(process.argv.slice(2)));

async function main(args: readonly string[]): Promise<number> {
  const start = performance.now();
  const progress = createProgress((text) => process.stderr.write(text));
  try {
    const options = readOptions(args);
    if (options.help) {
      process.stdout.write(USAGE);
      return 0;
    }
    const rows = await Promise.race([measure(options, progress), stop.asked]);
    if (rows === undefined) {
      progress.line('Interrupted.');
      return INTERRUPTED;
    }
    progress.line(`Measured in ${elapsed(start)}\n`);
    const write = options.json ? asJson : asTable;
    await written(write(machine(), options.seconds, rows));
    return 0;
  } catch (error) {
    progress.line(error instanceof StackFailure ? error.message : String(error instanceof Error ? error.stack : error));
    return 1;
  } finally {
    void stop.hurried.then(() => stopAllProcesses(0));
    await stopAllProcesses();
  }
}

async function measure({ only, ...sizes }: Options, progress: Progress): Promise<Row[]> {
  const death = Promise.withResolvers<never>();
  const all = async (): Promise<Row[]> => {
    const stand = await startStand(sizes, progress, (message) => death.reject(new StackFailure(message)));
    const rows: Row[] = [];
    for (const name of only) {
      rows.push(...(await progress.step(name, benchmarks[name](stand))));
    }
    await stand.stop();
    return rows;
  };
  const done = all();
  // Whoever loses the race still settles some time.
  done.catch(() => undefined);
  death.promise.catch(() => undefined);
  return Promise.race([done, death.promise]);
}

/** Standard output may be a pipe, which takes its time; leaving earlier would cut the result. */
function written(text: string): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write(text, () => resolve());
  });
}
