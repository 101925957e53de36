import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { askedFor, offeredBy } from './promql.ts';
import { type RefusingMail, startRefusingMail } from './refusing-mail.ts';
import { PATIENCE } from './test-app.ts';

const read = (path: string) => readFileSync(join(repositoryRoot, path), 'utf8');
interface Rule {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string; runbook: string };
}
const rulesOf = (name: string) =>
  (parse(read(`infra/prometheus/${name}.rules.yaml`)) as { groups: { rules: Rule[] }[] }).groups.flatMap(
    (group) => group.rules,
  );
const rules = [...rulesOf('mail'), ...rulesOf('auth-api')];

interface Panel {
  type: string;
  title: string;
  datasource?: { type: string; uid: string };
  gridPos: { x: number; y: number; w: number; h: number };
  fieldConfig?: { defaults: { unit?: string } };
  targets?: { expr: string; datasource: { uid: string } }[];
}
const dashboard = JSON.parse(read('infra/grafana/latchkey.json')) as {
  panels: Panel[];
  templating: { list: { name: string; type: string; query: unknown }[] };
  annotations: { list: { datasource: { uid: string } }[] };
};
const panels = dashboard.panels.filter(({ type }) => type !== 'row');

/** Of Prometheus' own, and what it adds to each sample. */
const OWN_METRICS = ['up'];
const OWN_LABELS = ['job', 'instance'];

let all: RefusingMail;
beforeAll(async () => {
  all = await startRefusingMail();
});
afterAll(() => all.stop());

const scrape = async () => ({
  api: (await all.api.get('/metrics')).body,
  worker: await (await fetch(`${all.worker.url}/metrics`)).text(),
});

test('a mail that fails and one that was accepted show in the numbers alerts go by', async () => {
  const { to } = await all.failedMail();
  const { api, worker } = await scrape();
  for (const line of [
    'latchkey_mail_jobs_total{name="activation",outcome="rejected"} 1',
    'latchkey_mail_queue_depth{state="failed"} 1',
    'latchkey_mail_dependency_up{dependency="redis"} 1',
    'latchkey_mail_redis_may_evict 0',
    'latchkey_mail_reports_waiting 0',
  ])
    expect(worker.split('\n')).toContain(line);
  for (const line of ['latchkey_mail_outbox_mails 1', 'latchkey_mail_outbox_unpublished_age_seconds 0'])
    expect(api.split('\n')).toContain(line);
  expect(await all.owedTo(to)).toBeDefined();
});

test('auth-api says of itself what its alerts compare: checks, the lag and its bound, the queue and its bound, memory and its limits', async () => {
  const { api } = await scrape();
  const numberOf = (metric: string) => Number(new RegExp(`^${metric} (\\S+)$`, 'm').exec(api)?.[1]);
  const { checks } = (await all.api.get('/readyz')).json() as { checks: object };
  for (const check of Object.keys(checks)) expect(numberOf(`latchkey_check_up{check="${check}"}`), check).toBe(1);
  expect(numberOf('latchkey_revocation_lag_max_seconds')).toBe(2 * PATIENCE);
  expect(numberOf('latchkey_revocation_lag_seconds')).toBeLessThan(2);
  expect(numberOf('latchkey_password_queue_limit')).toBeGreaterThanOrEqual(128);
  expect(numberOf('latchkey_password_queue_length')).toBe(0);
  expect(numberOf('latchkey_heap_limit_bytes')).toBeGreaterThan(numberOf('nodejs_heap_size_used_bytes'));
  expect(numberOf('latchkey_memory_limit_bytes')).toBeGreaterThan(numberOf('process_resident_memory_bytes'));
  expect(Number.isSafeInteger(numberOf('latchkey_memory_limit_bytes'))).toBe(true);
});

test('a check that fails is told at the next scrape', async () => {
  all.server.freeze();
  try {
    expect((await scrape()).api).toMatch(/^latchkey_check_up\{check="redis"\} 0$/m);
  } finally {
    all.server.thaw();
  }
});

describe('what is asked of the metrics', () => {
  const asked: [where: string, expr: string][] = [
    ...rules.map(({ alert, expr }): [string, string] => [alert, expr]),
    ...panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }): [string, string] => [title, expr])),
  ];

  test('is what both apps answer, by the names of their metrics and labels', async () => {
    // A label shows once there was something to say.
    await all.failedMail();
    const { api, worker } = await scrape();
    const offered = offeredBy(`${api}\n${worker}`);
    const missing = asked.flatMap(([where, expr]) =>
      askedFor(expr)
        .filter(({ metric }) => !OWN_METRICS.includes(metric))
        .flatMap(({ metric, labels }) => {
          const known = offered.get(metric);
          if (!known) return [`${where}: ${metric}`];
          return labels
            .filter((label) => !known.has(label) && !OWN_LABELS.includes(label))
            .map((label) => `${where}: ${metric}{${label}}`);
        }),
    );
    expect(missing).toEqual([]);
  });

  test('is read out of every expression, however it is written', () => {
    expect(
      askedFor('sum by (a) (rate(m_total{b="x{y} and z",c!~"d"}[5m])) > 2 * max(n offset 1h) or vector(0)'),
    ).toEqual([
      { metric: 'm_total', labels: ['b', 'c'] },
      { metric: 'n', labels: [] },
    ]);
    for (const [where, expr] of asked) expect(askedFor(expr).length, where).toBeGreaterThan(0);
  });
});

test.each([
  ['mail', 'Mail'],
  ['auth-api', 'AuthApi'],
])('every alert of %s has an entry of its name in the runbook, and the runbook none without one', (name, prefix) => {
  const entries = [...read('docs/runbook.md').matchAll(/^### (\w+)$/gm)].map(([, entry = '']) => entry);
  const named = rulesOf(name).map(({ alert }) => alert);
  expect(entries.filter((entry) => entry.startsWith(prefix)).toSorted()).toEqual(named.toSorted());
  expect(new Set(entries).size).toBe(rules.length);
  for (const { alert, labels, annotations } of rulesOf(name)) {
    expect(annotations.runbook).toBe(`docs/runbook.md#${alert.toLowerCase()}`);
    expect(['page', 'ticket']).toContain(labels.severity);
  }
});

describe('the dashboard', () => {
  test('asks the Prometheus that is chosen', () => {
    const [choice] = dashboard.templating.list;
    expect(choice).toMatchObject({ name: 'datasource', type: 'datasource', query: 'prometheus' });
    const sources = [...JSON.stringify(dashboard).matchAll(/"uid":"([^"]*)"/g)].map(([, uid]) => uid);
    expect(new Set(sources)).toEqual(new Set(['latchkey', '$datasource']));
    for (const { title, datasource, targets = [] } of panels) {
      expect(datasource, title).toEqual({ type: 'prometheus', uid: '$datasource' });
      expect(targets.length, title).toBeGreaterThan(0);
      for (const target of targets) expect(target.datasource, title).toEqual(datasource);
    }
  });

  test('has a unit for every panel, and a place of its own', () => {
    for (const { title, fieldConfig } of panels) expect(fieldConfig?.defaults.unit, title).toMatch(/^\w+$/);
    const titles = panels.map(({ title }) => title);
    expect(new Set(titles).size).toBe(titles.length);
    const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, index) => `${x + (index % w)},${y + Math.floor(index / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
  });

  test('shows every metric of ours', async () => {
    const { api, worker } = await scrape();
    const shown = new Set(
      panels.flatMap(({ targets = [] }) =>
        targets.flatMap(({ expr }) => askedFor(expr).map(({ metric }) => metric.replace(/_(?:bucket|count|sum)$/, ''))),
      ),
    );
    const ours = [...`${api}\n${worker}`.matchAll(/^# TYPE (latchkey_\w+) /gm)].map(([, name]) => name);
    expect(ours.filter((name) => name === undefined || !shown.has(name))).toEqual(['latchkey_mail_redis_may_evict']);
  });
});
