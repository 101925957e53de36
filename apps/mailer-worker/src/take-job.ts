/** One try of one job, counted and logged, and what BullMQ is told of it: done, come again, or never again. */
import { type Job, UnrecoverableError } from 'bullmq';
import type { Logger } from 'pino';
import { type Delivered, DeliveryFailed, type IncomingJob } from './deliver.ts';
import type { JobOutcome, Metrics } from './metrics.ts';

/** @returns the processor; the signal aborts the try. */
export function createJobTaker(deliver: (job: IncomingJob) => Promise<Delivered>, metrics: Metrics, logger: Logger) {
  /** Counts the try; the fields every line about it has. */
  function finish(job: Job, outcome: JobOutcome, startedAt: number) {
    const seconds = (performance.now() - startedAt) / 1000;
    metrics.count(job.name, outcome, seconds);
    return { ...describe(job), outcome, ms: Math.round(seconds * 1000) };
  }

  function reportFailure(failure: DeliveryFailed, job: Job, startedAt: number): void {
    const outcome = outcomeOf(failure, job);
    const { phase, smtpCode, message } = failure;
    const line = { ...finish(job, outcome, startedAt), phase, smtp_code: smtpCode, reason: message };
    if (outcome === 'retried') logger.warn(line, 'mail not accepted, will be tried again');
    else logger.error(line, 'mail failed, it is in the failed set');
  }

  return async (job: Job, signal: AbortSignal | undefined): Promise<void> => {
    const startedAt = performance.now();
    try {
      const { outcome, triedBefore } = await deliver({ id: job.id ?? '', name: job.name, payload: job.data, signal });
      const line = finish(job, outcome, startedAt);
      logger.info(triedBefore ? { ...line, tried_before: true } : line, 'mail accepted');
    } catch (error) {
      if (!(error instanceof DeliveryFailed)) throw error;
      reportFailure(error, job, startedAt);
      // Redis keeps the message and the stack of what is thrown here; a DeliveryFailed holds nothing secret.
      throw error.permanent ? new UnrecoverableError(error.message) : error;
    }
  };
}

function outcomeOf(failure: DeliveryFailed, job: Job): JobOutcome {
  if (failure.permanent) return failure.phase === 'parse' ? 'invalid' : 'rejected';
  return job.attemptsMade + 1 >= (job.opts.attempts ?? 1) ? 'given_up' : 'retried';
}

/** What a log line says of a job: ids, and the recipient without the local part. Nothing of the payload is checked yet. */
function describe(job: Job) {
  const payload: Record<string, unknown> = typeof job.data === 'object' && job.data !== null ? job.data : {};
  const text = (value: unknown) => (typeof value === 'string' ? value.slice(0, 128) : undefined);
  return {
    mail_id: job.id,
    job: job.name,
    attempt: job.attemptsMade + 1,
    to: text(payload.to)?.replace(/^[^@]*/, '***'),
    request_id: text(payload.request_id),
    traceparent: text(payload.traceparent),
  };
}
