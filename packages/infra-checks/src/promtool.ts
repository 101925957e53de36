/** What alert rules make of a course of events, as Prometheus itself evaluates them: the unit tests of its promtool. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { temporaryFolder } from '@latchkey/dev-stack/processes';
import { programOnPath } from '@latchkey/dev-stack/system-programs';

export const promtool = programOnPath('promtool');

/** Seconds between two scrapes. */
const INTERVAL = 30;
/** Seconds between two evaluations: Prometheus' own default. */
const EVALUATED_EVERY = 60;

/** What a series does for a while: stands at a value, changes by so much a second (from there, or from where it was), or is not there at all. */
export interface Course {
  value?: number;
  rate?: number;
  minutes: number;
}

/** Promtool's notation: `first+stepxtimes`, or `_xtimes`. */
function notation(courses: readonly Course[]): string {
  let last = 0;
  return courses
    .map(({ value, rate, minutes }) => {
      const scrapes = (minutes * 60) / INTERVAL;
      if (value === undefined && rate === undefined) return `_x${scrapes}`;
      const step = (rate ?? 0) * INTERVAL;
      const first = value ?? last + step;
      last = first + step * (scrapes - 1);
      return `${first}${step < 0 ? '-' : '+'}${Math.abs(step)}x${scrapes - 1}`;
    })
    .join(' ');
}

async function run(...args: string[]): Promise<string> {
  if (promtool === undefined) throw new Error('promtool is missing');
  const { stdout, stderr } = await promisify(execFile)(promtool, args).catch(
    (failed: { stdout: string; stderr: string }) => failed,
  );
  return `${stdout}${stderr}`;
}

/** @returns what is wrong with them, templates included; nothing when they are right. */
export async function complaints(ruleFiles: readonly string[]): Promise<string[]> {
  const said = await run('check', 'rules', ...ruleFiles);
  return said.split('\n').filter((line) => line.trim() !== '' && !/^Checking |SUCCESS: /.test(line));
}

/** @returns what is wrong with expressions; nothing when they are PromQL. */
export async function wrongExpressions(expressions: readonly string[]): Promise<string[]> {
  const file = join(temporaryFolder('expressions'), 'rules.json');
  const rules = expressions.map((expr, index) => ({ record: `expression_${index}`, expr }));
  writeFileSync(file, JSON.stringify({ groups: [{ name: 'expressions', rules }] }));
  return complaints([file]);
}

/** What happens, and the minutes in which it is asked what fires. */
export interface Event {
  series: Readonly<Record<string, readonly Course[]>>;
  between: readonly [from: number, to: number];
}

/** @returns for each event, by itself, the names of the alerts that fire at some time in it, in order. */
export async function firing(ruleFiles: readonly string[], events: readonly Event[]): Promise<string[][]> {
  const file = join(temporaryFolder('alerts'), 'test.json');
  const tests = events.map(({ series, between: [from, to] }, index) => ({
    interval: `${INTERVAL}s`,
    input_series: Object.entries(series).map(([name, courses]) => ({ series: name, values: notation(courses) })),
    // Nothing is expected, so what there is will be named; by a comment, of which event.
    promql_expr_test: [
      {
        expr: `group by (alertname) (max_over_time(ALERTS{alertstate="firing"}[${to - from}m])) # event ${index}`,
        eval_time: `${to}m`,
        exp_samples: [],
      },
    ],
  }));
  // JSON is YAML.
  writeFileSync(file, JSON.stringify({ rule_files: ruleFiles, evaluation_interval: `${EVALUATED_EVERY}s`, tests }));
  const said = await run('test', 'rules', file);
  const named = said.split(/^ +expr: /m).slice(1);
  if (named.length === 0 && !said.includes('SUCCESS')) throw new Error(said);
  const fired = new Map(
    named.map((about) => [
      Number(/# event (\d+)/.exec(about)?.[1]),
      [...(about.split('got:')[1] ?? '').matchAll(/alertname="(\w+)"/g)].map(([, name = '']) => name).toSorted(),
    ]),
  );
  if ([...fired.keys()].some((index) => tests[index] === undefined)) throw new Error(said);
  return events.map((_, index) => fired.get(index) ?? []);
}
