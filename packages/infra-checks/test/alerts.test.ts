import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { type Course, complaints, type Event, firing, promtool, wrongExpressions } from '../src/promtool.ts';

const files = ['mail', 'auth-api'].map((name) => join(repositoryRoot, `infra/prometheus/${name}.rules.yaml`));
const alerts = files.flatMap((file) =>
  (parse(readFileSync(file, 'utf8')) as { groups: { rules: { alert: string }[] }[] }).groups.flatMap(({ rules }) =>
    rules.map(({ alert }) => alert),
  ),
);

type Doing = Omit<Course, 'minutes'>;
const at = (value: number): Doing => ({ value });
const perSecond = (rate: number): Doing => ({ rate });
const gone: Doing = {};

const request = (route: string, status: number) =>
  `latchkey_http_request_duration_seconds_count{job="auth-api",instance="a",route="${route}",method="GET",status="${status}"}`;
const verifyBelow = (le: string) =>
  `latchkey_http_request_duration_seconds_bucket{job="auth-api",instance="a",route="/v1/verify",method="GET",status="200",le="${le}"}`;
const owedBelow = (le: string) => `latchkey_mail_owed_seconds_bucket{job="mailer-worker",instance="w",le="${le}"}`;
const mails = (outcome: string) =>
  `latchkey_mail_jobs_total{job="mailer-worker",instance="w",name="activation",outcome="${outcome}"}`;
const api = (metric: string, labels = '') => `${metric}{job="auth-api",instance="a"${labels}}`;
const worker = (metric: string, labels = '') => `${metric}{job="mailer-worker",instance="w"${labels}}`;
const reportsWaiting = worker('latchkey_mail_reports_waiting');
const refused = api('latchkey_refused_requests_total', ',class="passwords"');
const dropped = api('latchkey_dropped_connections_total');
const verifications = request('/v1/verify', 200);

/** A good day: logins, verifications and mails at a steady pace, so that every gauge stands where it does while they flow. */
const GOOD: Readonly<Record<string, Doing>> = {
  [api('up')]: at(1),
  'up{job="auth-api",instance="b"}': at(1),
  [api('latchkey_check_up', ',check="postgresql"')]: at(1),
  [verifications]: perSecond(500),
  [request('/v1/verify', 401)]: perSecond(20),
  [request('/v1/tokens', 200)]: perSecond(5),
  [request('/readyz', 200)]: perSecond(0.2),
  [verifyBelow('0.001')]: perSecond(450),
  [verifyBelow('0.005')]: perSecond(499),
  [verifyBelow('0.05')]: perSecond(500),
  [verifyBelow('+Inf')]: perSecond(500),
  [api('latchkey_dependency_errors_total', ',dependency="redis"')]: at(3),
  [api('latchkey_revocation_lag_seconds')]: at(0.2),
  [api('latchkey_revocation_lag_max_seconds')]: at(2),
  [api('latchkey_revoked_sessions')]: at(60_000),
  [api('latchkey_password_queue_length')]: at(6),
  [api('latchkey_password_queue_limit')]: at(256),
  [refused]: at(40),
  [dropped]: at(2),
  [api('nodejs_eventloop_lag_p99_seconds')]: at(0.012),
  [api('nodejs_heap_size_used_bytes')]: at(90e6),
  [api('latchkey_heap_limit_bytes')]: at(280e6),
  [api('process_resident_memory_bytes')]: at(250e6),
  [api('latchkey_memory_limit_bytes')]: at(536e6),
  [api('latchkey_mail_outbox_unpublished_age_seconds')]: at(0.1),
  [api('latchkey_mail_outbox_mails')]: at(40),
  [worker('up')]: at(1),
  [worker('latchkey_mail_dependency_up', ',dependency="redis"')]: at(1),
  [worker('latchkey_mail_dependency_up', ',dependency="smtp"')]: at(1),
  [worker('latchkey_mail_queue_age_seconds')]: at(0.5),
  [worker('latchkey_mail_queue_depth', ',state="delayed"')]: at(20),
  [worker('latchkey_mail_queue_depth', ',state="failed"')]: at(0),
  [owedBelow('1')]: perSecond(4.9),
  [owedBelow('30')]: perSecond(4.99),
  [owedBelow('60')]: perSecond(5),
  [owedBelow('300')]: perSecond(5),
  [owedBelow('+Inf')]: perSecond(5),
  [mails('accepted')]: perSecond(5),
  [mails('rejected')]: perSecond(0.01),
  [mails('invalid')]: at(1),
  [worker('latchkey_mail_failures_total', ',phase="rcpt"')]: perSecond(0.05),
  [worker('latchkey_mail_possible_duplicates_total')]: at(2),
  [worker('latchkey_mail_redis_may_evict')]: at(0),
  [reportsWaiting]: at(4),
};
/** Minutes of it before anything else happens. */
const BEFORE = 30;

interface Happening {
  alert: string;
  when: string;
  /** The minutes from its begin in which an alert may fire. */
  lasted: number;
  /** What the series do from then on; one after the other, where it is several things. The others go on as before. */
  does: Record<string, Doing | readonly Course[]>;
  /** Besides the alert itself. */
  also?: string[];
}

const fires: Happening[] = [
  {
    alert: 'MailWorkerDown',
    when: 'the only worker does not answer',
    lasted: 3,
    does: { [worker('up')]: at(0) },
  },
  { alert: 'MailWorkerDown', when: 'there is no worker to be asked', lasted: 9, does: { [worker('up')]: gone } },
  {
    alert: 'MailWorkerWithoutRedis',
    when: 'a worker does not reach Redis',
    lasted: 2,
    does: { [worker('latchkey_mail_dependency_up', ',dependency="redis"')]: at(0) },
  },
  {
    alert: 'MailServerDown',
    when: 'the mail server does not answer',
    lasted: 3,
    does: { [worker('latchkey_mail_dependency_up', ',dependency="smtp"')]: at(0) },
  },
  {
    alert: 'MailOutboxStuck',
    when: 'nobody publishes what is owed',
    lasted: 4,
    does: { [api('latchkey_mail_outbox_unpublished_age_seconds')]: perSecond(1) },
  },
  {
    alert: 'MailQueueStuck',
    when: 'no worker takes the oldest mail',
    lasted: 7,
    does: { [worker('latchkey_mail_queue_age_seconds')]: perSecond(1) },
  },
  {
    alert: 'MailSlow',
    when: 'two in a hundred are accepted after more than a minute',
    lasted: 26,
    does: { [owedBelow('1')]: perSecond(4.5), [owedBelow('30')]: perSecond(4.8), [owedBelow('60')]: perSecond(4.9) },
  },
  {
    alert: 'MailRetries',
    when: 'a third of the tries fail',
    lasted: 26,
    does: { [worker('latchkey_mail_failures_total', ',phase="rcpt"')]: perSecond(2.5) },
  },
  {
    alert: 'MailRetries',
    when: 'every try fails since the worker was started: it has accepted none yet, and has no series of it',
    lasted: 26,
    does: {
      [worker('latchkey_mail_failures_total', ',phase="rcpt"')]: perSecond(2.5),
      [mails('accepted')]: gone,
      [mails('rejected')]: gone,
      [reportsWaiting]: at(0),
    },
  },
  {
    alert: 'MailDelayed',
    when: 'thousands wait for their turn',
    lasted: 31,
    does: { [worker('latchkey_mail_queue_depth', ',state="delayed"')]: at(2000) },
  },
  {
    alert: 'MailFailed',
    when: 'a mail was given up',
    lasted: 6,
    does: { [worker('latchkey_mail_queue_depth', ',state="failed"')]: at(1) },
  },
  {
    alert: 'MailRejectedInBulk',
    when: 'a fifth is refused for good',
    lasted: 21,
    does: { [mails('rejected')]: perSecond(1.25) },
  },
  {
    alert: 'MailInvalid',
    when: 'the first job that is not understood comes',
    lasted: 1,
    does: { [mails('invalid').replace('"w"', '"another"')]: at(1) },
  },
  {
    alert: 'MailInvalid',
    when: 'another job comes that is not understood',
    lasted: 1,
    does: { [mails('invalid')]: at(2) },
  },
  {
    alert: 'MailReportsUnread',
    when: 'nobody reads reports while mails are accepted',
    lasted: 11,
    does: { [reportsWaiting]: perSecond(5) },
  },
  {
    alert: 'MailReportsUnread',
    when: 'reports stand and no more mails come',
    lasted: 15,
    does: { [reportsWaiting]: at(3), [mails('accepted')]: perSecond(0) },
  },
  {
    alert: 'MailReportsUnread',
    when: 'reports stand and the workers have begun anew',
    lasted: 15,
    does: { [reportsWaiting]: at(3), [mails('accepted')]: gone },
  },
  {
    alert: 'MailReportsUnread',
    when: 'they are read far slower than they come',
    lasted: 20,
    does: { [reportsWaiting]: perSecond(4.5) },
  },
  {
    alert: 'MailPossibleDuplicates',
    when: 'an hour brings a dozen',
    lasted: 10,
    does: { [worker('latchkey_mail_possible_duplicates_total')]: at(14) },
  },
  {
    alert: 'MailRedisMayEvict',
    when: 'Redis may throw queued mails away',
    lasted: 6,
    does: { [worker('latchkey_mail_redis_may_evict')]: at(1) },
  },

  {
    alert: 'AuthApiDown',
    when: 'no instance answers',
    lasted: 2,
    does: { [api('up')]: at(0), 'up{job="auth-api",instance="b"}': at(0) },
  },
  {
    alert: 'AuthApiDown',
    when: 'there is no instance to be asked',
    lasted: 8,
    does: { [api('up')]: gone, 'up{job="auth-api",instance="b"}': gone },
  },
  {
    alert: 'AuthApiInstanceDown',
    when: 'one of two does not answer',
    lasted: 11,
    does: { [api('up')]: at(0) },
  },
  {
    alert: 'AuthApiNotReady',
    when: 'an instance does not reach PostgreSQL',
    lasted: 2,
    does: { [api('latchkey_check_up', ',check="postgresql"')]: at(0) },
  },
  {
    alert: 'AuthApiErrors',
    when: 'one login in fifty fails, which is next to nothing of all requests',
    lasted: 7,
    does: { [request('/v1/tokens', 500)]: perSecond(0.1) },
  },
  {
    alert: 'AuthApiUnavailable',
    when: 'one login in ten is turned away',
    lasted: 5,
    does: { [request('/v1/tokens', 503)]: perSecond(0.5) },
  },
  {
    alert: 'AuthApiDependencyErrors',
    when: 'Redis fails once in five seconds',
    lasted: 6,
    does: { [api('latchkey_dependency_errors_total', ',dependency="redis"')]: perSecond(0.2) },
  },
  {
    alert: 'AuthApiVerifySlow',
    when: 'two verifications in a hundred take a moment',
    lasted: 12,
    does: { [verifyBelow('0.001')]: perSecond(300), [verifyBelow('0.005')]: perSecond(490) },
  },
  {
    alert: 'AuthApiRevocationLag',
    when: 'a copy is nearly too old to be used',
    lasted: 2,
    does: { [api('latchkey_revocation_lag_seconds')]: at(1.3) },
  },
  {
    alert: 'AuthApiRevocationLag',
    when: 'a copy is nearly too old where the bound is another',
    lasted: 2,
    does: {
      [api('latchkey_revocation_lag_seconds')]: at(0.4),
      [api('latchkey_revocation_lag_max_seconds')]: at(0.5),
    },
  },
  {
    alert: 'AuthApiRevocationCopyGrows',
    when: 'nothing is forgotten any more',
    lasted: 60,
    does: { [api('latchkey_revoked_sessions')]: perSecond(100) },
  },
  {
    alert: 'AuthApiRevocationCopyGrows',
    when: 'more than a million stay',
    lasted: 85,
    does: { [api('latchkey_revoked_sessions')]: at(1_100_000) },
  },
  {
    alert: 'AuthApiPasswordQueue',
    when: 'it stays more than half full',
    lasted: 3,
    does: { [api('latchkey_password_queue_length')]: at(140) },
  },
  {
    alert: 'AuthApiOverloaded',
    when: 'one login a second is turned away',
    lasted: 4,
    does: { [refused]: perSecond(1) },
  },
  {
    alert: 'AuthApiConnectionsDropped',
    when: 'a connection is closed unanswered',
    lasted: 2,
    does: { [dropped]: perSecond(0.1) },
  },
  {
    alert: 'AuthApiEventLoop',
    when: 'it stands still again and again',
    lasted: 6,
    does: { [api('nodejs_eventloop_lag_p99_seconds')]: at(0.25) },
  },
  {
    alert: 'AuthApiHeap',
    when: 'collections leave it nearly full',
    lasted: 16,
    does: { [api('nodejs_heap_size_used_bytes')]: at(240e6) },
  },
  {
    alert: 'AuthApiMemory',
    when: 'the process takes nearly all of its container',
    lasted: 6,
    does: { [api('process_resident_memory_bytes')]: at(500e6) },
  },
];

/** What looks like it and is not. */
const silent: Happening[] = [
  {
    alert: 'MailWorkerDown',
    when: 'a worker begins anew',
    lasted: 9,
    does: {
      [worker('up')]: [
        { value: 0, minutes: 1 },
        { value: 1, minutes: 9 },
      ],
    },
  },
  {
    alert: 'MailWorkerWithoutRedis',
    when: 'Redis begins anew',
    lasted: 9,
    does: {
      [worker('latchkey_mail_dependency_up', ',dependency="redis"')]: [
        { value: 0, minutes: 0.5 },
        { value: 1, minutes: 9 },
      ],
    },
  },
  {
    alert: 'MailServerDown',
    when: 'the mail server begins anew',
    lasted: 9,
    does: {
      [worker('latchkey_mail_dependency_up', ',dependency="smtp"')]: [
        { value: 0, minutes: 1 },
        { value: 1, minutes: 9 },
      ],
    },
  },
  {
    alert: 'MailOutboxStuck',
    when: 'what is owed waits through a failover',
    lasted: 9,
    does: {
      [api('latchkey_mail_outbox_unpublished_age_seconds')]: [
        { rate: 1, minutes: 2 },
        { value: 0, minutes: 9 },
      ],
    },
  },
  {
    alert: 'MailQueueStuck',
    when: 'a burst takes two minutes',
    lasted: 9,
    does: {
      [worker('latchkey_mail_queue_age_seconds')]: [
        { rate: 1, minutes: 2 },
        { value: 0, minutes: 9 },
      ],
    },
  },
  {
    alert: 'MailSlow',
    when: 'one in five hundred is late',
    lasted: 60,
    does: { [owedBelow('60')]: perSecond(4.99) },
  },
  { alert: 'MailSlow', when: 'no mails flow', lasted: 60, does: { [owedBelow('+Inf')]: gone } },
  {
    alert: 'MailRetries',
    when: 'a tenth of the tries fail',
    lasted: 60,
    does: { [worker('latchkey_mail_failures_total', ',phase="rcpt"')]: perSecond(0.5) },
  },
  {
    alert: 'MailDelayed',
    when: 'a burst waits for its turn',
    lasted: 31,
    does: {
      [worker('latchkey_mail_queue_depth', ',state="delayed"')]: [
        { value: 3000, rate: -2, minutes: 25 },
        { value: 0, minutes: 9 },
      ],
    },
  },
  {
    alert: 'MailFailed',
    when: 'an operator retries it at once',
    lasted: 9,
    does: {
      [worker('latchkey_mail_queue_depth', ',state="failed"')]: [
        { value: 1, minutes: 2 },
        { value: 0, minutes: 9 },
      ],
    },
  },
  {
    alert: 'MailRejectedInBulk',
    when: 'one in twenty is refused for good',
    lasted: 60,
    does: { [mails('rejected')]: perSecond(0.26) },
  },
  { alert: 'MailInvalid', when: 'there was one before', lasted: 60, does: { [mails('invalid')]: perSecond(0) } },
  {
    alert: 'MailReportsUnread',
    when: 'mails are accepted at a high pace, so that some reports are always on their way',
    lasted: 60,
    does: { [reportsWaiting]: at(450), [mails('accepted')]: perSecond(500) },
  },
  {
    alert: 'MailReportsUnread',
    when: 'what an outage left is read at a steady pace',
    lasted: 30,
    does: { [reportsWaiting]: { value: 40_000, rate: -15 } },
  },
  {
    alert: 'MailReportsUnread',
    when: 'no mails flow',
    lasted: 60,
    does: {
      [reportsWaiting]: at(0),
      [mails('accepted')]: perSecond(0),
      [mails('rejected')]: perSecond(0),
      [worker('latchkey_mail_failures_total', ',phase="rcpt"')]: perSecond(0),
    },
  },
  {
    alert: 'MailPossibleDuplicates',
    when: 'a worker was killed with its mails in flight',
    lasted: 60,
    does: { [worker('latchkey_mail_possible_duplicates_total')]: at(7) },
  },
  {
    alert: 'MailRedisMayEvict',
    when: 'it is set right',
    lasted: 9,
    does: {
      [worker('latchkey_mail_redis_may_evict')]: [
        { value: 1, minutes: 2 },
        { value: 0, minutes: 9 },
      ],
    },
  },

  {
    alert: 'AuthApiDown',
    when: 'one of two is left',
    lasted: 9,
    does: { [api('up')]: at(0) },
  },
  {
    alert: 'AuthApiInstanceDown',
    when: 'an instance was taken away for good',
    lasted: 30,
    does: { [api('up')]: gone },
  },
  {
    alert: 'AuthApiInstanceDown',
    when: 'an instance begins anew',
    lasted: 30,
    does: {
      [api('up')]: [
        { value: 0, minutes: 5 },
        { value: 1, minutes: 30 },
      ],
    },
  },
  {
    alert: 'AuthApiNotReady',
    when: 'PostgreSQL begins anew',
    lasted: 9,
    does: {
      [api('latchkey_check_up', ',check="postgresql"')]: [
        { value: 0, minutes: 0.5 },
        { value: 1, minutes: 9 },
      ],
    },
  },
  {
    alert: 'AuthApiErrors',
    when: 'the only request of a quiet route fails',
    lasted: 9,
    does: {
      [request('/v1/sessions', 500)]: [
        { value: 0, minutes: 1 },
        { value: 1, minutes: 9 },
      ],
    },
  },
  {
    alert: 'AuthApiErrors',
    when: 'a login in a thousand fails',
    lasted: 30,
    does: { [request('/v1/tokens', 500)]: perSecond(0.005) },
  },
  {
    alert: 'AuthApiErrors',
    when: 'everybody types a wrong password',
    lasted: 30,
    does: { [request('/v1/tokens', 401)]: perSecond(50) },
  },
  {
    alert: 'AuthApiUnavailable',
    when: 'probes are told of an instance that starts',
    lasted: 30,
    does: { [request('/readyz', 503)]: perSecond(0.2) },
  },
  {
    alert: 'AuthApiUnavailable',
    when: 'Redis is gone for a second',
    lasted: 9,
    does: {
      [request('/v1/tokens', 503)]: [
        { value: 0, minutes: 1 },
        { value: 5, minutes: 9 },
      ],
    },
  },
  {
    alert: 'AuthApiDependencyErrors',
    when: 'connections are made anew',
    lasted: 9,
    does: { [api('latchkey_dependency_errors_total', ',dependency="redis"')]: at(15) },
  },
  {
    alert: 'AuthApiVerifySlow',
    when: 'one verification in a thousand takes a moment',
    lasted: 30,
    does: { [verifyBelow('0.005')]: perSecond(499.5) },
  },
  {
    alert: 'AuthApiVerifySlow',
    when: 'one of a few takes a moment',
    lasted: 30,
    does: {
      [verifications]: perSecond(0.01),
      [request('/v1/verify', 401)]: perSecond(0),
      [verifyBelow('0.001')]: perSecond(0),
      [verifyBelow('0.005')]: perSecond(0),
      [verifyBelow('0.05')]: perSecond(0.01),
      [verifyBelow('+Inf')]: perSecond(0.01),
    },
  },
  {
    alert: 'AuthApiRevocationLag',
    when: 'Redis fails over',
    lasted: 9,
    does: {
      [api('latchkey_revocation_lag_seconds')]: [
        { rate: 1, minutes: 0.5 },
        { value: 0.1, minutes: 9 },
      ],
    },
  },
  {
    alert: 'AuthApiRevocationCopyGrows',
    when: 'many are revoked at once, and forgotten',
    lasted: 30,
    does: {
      [api('latchkey_revoked_sessions')]: [
        { value: 900_000, minutes: 10 },
        { value: 60_000, minutes: 60 },
      ],
    },
  },
  {
    alert: 'AuthApiRevocationCopyGrows',
    when: 'a day begins after a quiet night',
    lasted: 60,
    does: { [api('latchkey_revoked_sessions')]: { value: 200, rate: 20 } },
  },
  {
    alert: 'AuthApiPasswordQueue',
    when: 'a burst fills it for a minute',
    lasted: 9,
    does: {
      [api('latchkey_password_queue_length')]: [
        { value: 256, minutes: 1 },
        { value: 0, minutes: 9 },
      ],
    },
  },
  {
    alert: 'AuthApiOverloaded',
    when: 'everybody comes at once for a moment',
    lasted: 9,
    does: {
      [refused]: [
        { value: 40, minutes: 1 },
        { value: 60, minutes: 9 },
      ],
    },
  },
  {
    alert: 'AuthApiConnectionsDropped',
    when: 'a handful are closed in a moment',
    lasted: 9,
    does: { [dropped]: at(7) },
  },
  {
    alert: 'AuthApiEventLoop',
    when: 'it once made the copy of the revocations anew',
    lasted: 9,
    does: {
      [api('nodejs_eventloop_lag_p99_seconds')]: [
        { value: 0.4, minutes: 1 },
        { value: 0.012, minutes: 9 },
      ],
    },
  },
  {
    alert: 'AuthApiHeap',
    when: 'it fills and is collected',
    lasted: 16,
    does: {
      [api('nodejs_heap_size_used_bytes')]: [
        { value: 230e6, minutes: 4 },
        { value: 90e6, minutes: 1 },
        { value: 230e6, minutes: 4 },
        { value: 90e6, minutes: 1 },
        { value: 230e6, minutes: 9 },
      ],
    },
  },
  {
    alert: 'AuthApiHeap',
    when: "the worker's is nearly full",
    lasted: 60,
    does: { [worker('nodejs_heap_size_used_bytes')]: at(275e6) },
  },
  {
    alert: 'AuthApiMemory',
    when: 'the process takes three quarters of its container',
    lasted: 60,
    does: { [api('process_resident_memory_bytes')]: at(400e6) },
  },
];

function courseOf(name: string, does: Happening['does']): Course[] {
  const then = does[name];
  const before = { ...GOOD[name], minutes: BEFORE };
  // Longer than anything is looked at.
  if (then === undefined) return [{ ...GOOD[name], minutes: BEFORE + 120 }];
  return Array.isArray(then) ? [before, ...(then as Course[])] : [before, { ...then, minutes: 120 }];
}

const eventOf = ({ does, lasted }: Pick<Happening, 'does' | 'lasted'>): Event => ({
  series: Object.fromEntries(
    [...new Set([...Object.keys(GOOD), ...Object.keys(does)])].map((name) => [name, courseOf(name, does)]),
  ),
  between: [BEFORE, BEFORE + lasted],
});

test('every alert has an event in which it fires, and one in which it does not', () => {
  for (const events of [fires, silent])
    expect([...new Set(events.map(({ alert }) => alert))].toSorted()).toEqual(alerts.toSorted());
});

describe.skipIf(promtool === undefined)('as Prometheus evaluates them', () => {
  test('the rules and their texts are right', async () => {
    expect(await complaints(files)).toEqual([]);
  });

  test('every query of the dashboard is PromQL', async () => {
    const { panels } = JSON.parse(readFileSync(join(repositoryRoot, 'infra/grafana/latchkey.json'), 'utf8')) as {
      panels: { targets?: { expr: string }[] }[];
    };
    // What Grafana puts in.
    const queries = panels.flatMap(({ targets = [] }) =>
      targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '1m').replaceAll('$instance', '.*')),
    );
    expect(queries.length).toBeGreaterThan(20);
    expect(await wrongExpressions(queries)).toEqual([]);
    expect(await wrongExpressions(['sum(rate(up[1m])'])).not.toEqual([]);
  });

  const goodDay: Happening = { alert: 'none', when: 'the day is good', does: {}, lasted: 60 };
  const all = [...fires, ...silent, goodDay];
  // One promtool evaluates them all: each by itself would take as long again to start.
  let fired: ReadonlyMap<Happening, readonly string[]>;
  beforeAll(async () => {
    const names = await firing(files, all.map(eventOf));
    fired = new Map(all.map((event, index) => [event, names[index] ?? []]));
  }, 180_000);

  test('on a good day none fires', () => {
    expect(fired.get(goodDay)).toEqual([]);
  });

  test.each(fires)('$alert, and nothing else, fires when $when', (event) => {
    expect(fired.get(event)).toEqual([event.alert, ...(event.also ?? [])].toSorted());
  });

  test.each(silent)('$alert does not fire when $when', (event) => {
    expect(fired.get(event)).toEqual([]);
  });
});
