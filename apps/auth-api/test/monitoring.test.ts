import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { type RefusingMail, startRefusingMail } from './refusing-mail.ts';

const read = (path: string) => readFileSync(join(repositoryRoot, path), 'utf8');
const { groups } = parse(read('infra/prometheus/mail.rules.yaml')) as {
  groups: { rules: { alert: string; expr: string; annotations: { summary: string; runbook: string } }[] }[];
};
const rules = groups.flatMap((group) => group.rules);

let all: RefusingMail;
beforeAll(async () => {
  all = await startRefusingMail();
});
afterAll(() => all.stop());

test('every metric an alert asks for is one the apps have', async () => {
  const scraped = `${(await all.api.get('/metrics')).body}\n${await (await fetch(`${all.worker.url}/metrics`)).text()}`;
  const asked = new Set(rules.flatMap(({ expr }) => expr.match(/latchkey_\w+/g) ?? []));
  expect(asked.size).toBeGreaterThan(8);
  const known = new Set(
    [...scraped.matchAll(/^# TYPE (\w+) (\w+)$/gm)].flatMap(([, name = '', type]) =>
      type === 'histogram' ? [name, `${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
  expect([...asked].filter((name) => !known.has(name))).toEqual([]);
});

test('every alert has an entry of its name in the runbook, and the runbook none without one', () => {
  const entries = [...read('docs/runbook.md').matchAll(/^### (Mail\w+)$/gm)].map(([, name]) => name);
  expect(entries.sort()).toEqual(rules.map(({ alert }) => alert).sort());
  for (const { alert, annotations } of rules)
    expect(annotations.runbook).toBe(`docs/runbook.md#${alert.toLowerCase()}`);
});

test('a mail that fails and one that was accepted show in the numbers alerts go by', async () => {
  const { to } = await all.failedMail();
  const worker = await (await fetch(`${all.worker.url}/metrics`)).text();
  for (const line of [
    'latchkey_mail_jobs_total{name="activation",outcome="rejected"} 1',
    'latchkey_mail_queue_depth{state="failed"} 1',
    'latchkey_mail_dependency_up{dependency="redis"} 1',
    'latchkey_mail_redis_may_evict 0',
    'latchkey_mail_reports_waiting 0',
  ])
    expect(worker.split('\n')).toContain(line);
  const api = (await all.api.get('/metrics')).body.split('\n');
  expect(api).toContain('latchkey_mail_outbox_mails 1');
  expect(api).toContain('latchkey_mail_outbox_unpublished_age_seconds 0');
  expect(await all.owedTo(to)).toBeDefined();
});
