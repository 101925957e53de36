/** What is said of each try of a job: a line in the log, the counts, and a span where traces are on. */
import { MAIL_QUEUE } from '@latchkey/shared/mail-jobs';
import { type Tracing, traceIds } from '@latchkey/shared/tracing';
import type { Job } from 'bullmq';
import type { Logger } from 'pino';
import type { Delivered, DeliveryFailed } from './deliver.ts';
import type { JobOutcome, Metrics } from './metrics.ts';

export interface JobReporterParts {
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Undefined: traces are off. */
  readonly tracing?: Tracing | undefined;
}

/** @returns begins the report of one try; each ends with one of its three ends. */
export function createJobReporter({ metrics, logger, tracing }: JobReporterParts) {
  return (job: Job) => {
    const startedAt = performance.now();
    const span = tracing?.begin(`process ${MAIL_QUEUE}`, 'CONSUMER', textOf(job, 'traceparent'), {
      'messaging.system': 'bullmq',
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.name': MAIL_QUEUE,
      'messaging.message.id': job.id,
      'latchkey.mail.attempt': job.attemptsMade + 1,
    });
    /** The fields every line about it has. */
    const about = { ...describe(job), ...(span && traceIds(span.traceparent)) };
    const seconds = () => (performance.now() - startedAt) / 1000;

    function endSpan(outcome: JobOutcome, failure?: DeliveryFailed): void {
      span?.end(
        { 'latchkey.mail.outcome': outcome, ...(failure && { 'latchkey.mail.phase': failure.phase }) },
        failure && String(failure.smtpCode ?? failure.phase),
      );
    }

    /** Counts how the try ended. @returns the fields of its line. */
    function count(outcome: JobOutcome) {
      metrics.count(job.name, outcome, { seconds: seconds(), sinceOwed: (Date.now() - job.timestamp) / 1000 });
      return { ...about, outcome, ms: Math.round(seconds() * 1000) };
    }

    return {
      /** Of its span, to hand on. */
      traceparent: span?.traceparent,

      /** Not an end: it goes on without its job. */
      setAside: (): void => logger.warn(about, 'a mail takes long, others go on'),

      delivered(delivered: Delivered): void {
        endSpan(delivered.outcome);
        const line = count(delivered.outcome);
        if (delivered.outcome === 'superseded') logger.info(line, 'nothing sent: the link is dead');
        else if (delivered.outcome === 'paced') logger.debug({ ...line, wait: delivered.wait }, 'waits for its turn');
        else if (delivered.outcome === 'already_accepted' || !delivered.triedBefore) logger.info(line, 'mail accepted');
        else {
          metrics.countPossibleDuplicate();
          logger.info({ ...line, tried_before: true }, 'mail accepted');
        }
      },

      /** Its job is told so now. */
      failed(failure: DeliveryFailed, outcome: FailedOutcome): void {
        endSpan(outcome, failure);
        const line = { ...count(outcome), ...why(failure) };
        // What is remembered was counted by the try that met it.
        if (!failure.remembered) metrics.countFailure(failure.phase);
        if (outcome === 'retried') logger.warn(line, 'mail not accepted, will be tried again');
        else logger.error(line, 'mail failed, it is in the failed set');
      },

      /** It was set aside, and no other try is to follow. The outcome is counted, and said, when the job comes back and ends by it. */
      failedAside(failure: DeliveryFailed, outcome: FailedOutcome): void {
        endSpan(outcome, failure);
        metrics.countFailure(failure.phase);
        const line = { ...about, ms: Math.round(seconds() * 1000), ...why(failure) };
        logger.warn(line, 'mail failed while it was set aside, its job is told when it comes back');
      },
    };
  };
}

export type JobReport = ReturnType<ReturnType<typeof createJobReporter>>;

export type FailedOutcome = Extract<JobOutcome, 'retried' | 'rejected' | 'invalid' | 'given_up'>;

const why = ({ phase, smtpCode, message }: DeliveryFailed) => ({ phase, smtp_code: smtpCode, reason: message });

/** A field of a payload that nobody has checked yet. */
export function textOf({ data }: Job, field: string): string | undefined {
  const payload: Record<string, unknown> = typeof data === 'object' && data !== null ? data : {};
  const value = payload[field];
  return typeof value === 'string' ? value.slice(0, 254) : undefined;
}

/** What a log line says of a job: ids, and the recipient without the local part. Nothing of the payload is checked yet. */
function describe(job: Job) {
  return {
    mail_id: job.id,
    job: job.name,
    attempt: job.attemptsMade + 1,
    to: textOf(job, 'to')?.replace(/^[^@]*/, '***'),
    request_id: textOf(job, 'request_id')?.slice(0, 128),
    traceparent: textOf(job, 'traceparent')?.slice(0, 128),
  };
}
