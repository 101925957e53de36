/** What the worker counts, in Prometheus' terms. */
import { MAIL_JOB_NAMES } from '@latchkey/shared/mail-jobs';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { askedOnce } from './asked-once.ts';
import type { Delivered, Phase } from './deliver.ts';

/**
 * How a try ended: `accepted` by a mail server; `already_accepted` before, so not sent again; `superseded`: its link is dead, not sent;
 * `paced`: waits for its turn; `retried` later; `rejected` by the server for good; `invalid` job; `given_up` after the last attempt. The last
 * three are in the failed set, and counted when they get there.
 */
export type JobOutcome = Delivered['outcome'] | 'retried' | 'rejected' | 'invalid' | 'given_up';

/** Names a job may have as a label: whatever else the queue holds counts as one, so that nobody can grow the metrics. */
const JOB_NAMES: ReadonlySet<string> = new Set(MAIL_JOB_NAMES);

/** Jobs by state, and the milliseconds for which the oldest of those that no worker has taken yet has been owed; 0 when there is none. */
export interface QueueState {
  readonly depth: Record<string, number>;
  readonly oldest: number;
}

/** @param queueState rejects when Redis does not answer, and then the gauges have no value. */
export function createMetrics(queueState: () => Promise<QueueState>) {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });

  const jobs = new Counter({
    name: 'latchkey_mail_jobs_total',
    help: 'Tries to deliver a mail, by job name and how they ended.',
    labelNames: ['name', 'outcome'],
    registers,
  });
  const delivery = new Histogram({
    name: 'latchkey_mail_delivery_seconds',
    help: 'Time from taking up a job to the acceptance of its mail, of this try alone.',
    // From a mail server next door (milliseconds) to one that scans first (a minute).
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    registers,
  });
  const owed = new Histogram({
    name: 'latchkey_mail_owed_seconds',
    help: 'Time from the commit that owed a mail to its acceptance, over all tries.',
    // From an idle machine to the last retry.
    buckets: [0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 900, 3600, 14_400, 86_400, 345_600],
    registers,
  });
  const failures = new Counter({
    name: 'latchkey_mail_failures_total',
    help: 'Tries that ended without a mail, by the phase in which they failed.',
    labelNames: ['phase'],
    registers,
  });
  const possibleDuplicates = new Counter({
    name: 'latchkey_mail_possible_duplicates_total',
    help: 'Mails accepted after an earlier try of unknown end had begun to send the data: each may have arrived twice, with one Message-ID.',
    registers,
  });
  const state = askedOnce(() => queueState().catch(() => undefined));
  new Gauge({
    name: 'latchkey_mail_queue_age_seconds',
    help: 'Time for which the oldest mail that no worker has taken yet has been owed.',
    registers,
    async collect() {
      const found = await state();
      if (found === undefined) this.remove();
      else this.set(found.oldest / 1000);
    },
  });
  new Gauge({
    name: 'latchkey_mail_queue_depth',
    help: 'Jobs in the queue, by state.',
    labelNames: ['state'],
    registers,
    async collect() {
      const found = await state();
      this.reset();
      for (const [name, count] of Object.entries(found?.depth ?? {})) this.set({ state: name }, count);
    },
  });

  return {
    registry,
    /** @param took how long the try took, and how long ago the mail was owed first, in seconds. */
    count(name: string, outcome: JobOutcome, took: { seconds: number; sinceOwed: number }): void {
      jobs.inc({ name: JOB_NAMES.has(name) ? name : 'unknown', outcome });
      if (outcome !== 'accepted') return;
      delivery.observe(took.seconds);
      // The commit's clock is another machine's.
      owed.observe(Math.max(0, took.sinceOwed));
    },
    countFailure: (phase: Phase): void => failures.inc({ phase }),
    countPossibleDuplicate: (): void => possibleDuplicates.inc(),
  };
}

export type Metrics = ReturnType<typeof createMetrics>;
