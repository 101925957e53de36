/** What the worker counts, in Prometheus' terms. */
import { MAIL_JOB_NAMES } from '@latchkey/shared/mail-jobs';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/**
 * How a try ended: `accepted` by a mail server; `already_accepted` before, so not sent again; `retried` later; `rejected` by the server for
 * good; `invalid` job; `given_up` after the last attempt. The last three are in the failed set.
 */
export type JobOutcome = 'accepted' | 'already_accepted' | 'retried' | 'rejected' | 'invalid' | 'given_up';

/** Names a job may have as a label: whatever else the queue holds counts as one, so that nobody can grow the metrics. */
const JOB_NAMES: ReadonlySet<string> = new Set(MAIL_JOB_NAMES);

/**
 * @param queueDepth jobs by state; rejects when Redis does not answer, and then the gauge has no value.
 */
export function createMetrics(queueDepth: () => Promise<Record<string, number>>) {
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
  new Gauge({
    name: 'latchkey_mail_queue_depth',
    help: 'Jobs in the queue, by state.',
    labelNames: ['state'],
    registers,
    async collect() {
      this.reset();
      const depth = await queueDepth().catch(() => ({}));
      for (const [state, count] of Object.entries(depth)) this.set({ state }, count);
    },
  });

  return {
    registry,
    /** @param seconds how long the try took. */
    count(name: string, outcome: JobOutcome, seconds: number): void {
      jobs.inc({ name: JOB_NAMES.has(name) ? name : 'unknown', outcome });
      if (outcome === 'accepted') delivery.observe(seconds);
    },
  };
}

export type Metrics = ReturnType<typeof createMetrics>;
