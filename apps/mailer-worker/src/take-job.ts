/** One try of one job, counted and logged, and what BullMQ is told of it: done, come again, or never again. */
import { MAIL_QUEUE } from '@latchkey/shared/mail-jobs';
import { type Span, type Tracing, traceIds } from '@latchkey/shared/tracing';
import { DelayedError, type Job, UnrecoverableError, WaitingError } from 'bullmq';
import type { Logger } from 'pino';
import { type Delivered, DeliveryFailed, type IncomingJob, NO_ANSWER, type Step } from './deliver.ts';
import type { MailServerWatch } from './mail-server-watch.ts';
import type { JobOutcome, Metrics } from './metrics.ts';
import { domainOf, type Patience, SLOW_DOMAIN } from './pacing.ts';

export interface JobTakerParts {
  readonly deliver: (job: IncomingJob) => Promise<Delivered>;
  readonly server: MailServerWatch;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly patience: Patience;
  readonly mostSetAside: number;
  /** Undefined: traces are off. */
  readonly tracing?: Tracing | undefined;
}

/** One try of a job. */
interface Try {
  readonly job: Job;
  readonly startedAt: number;
  readonly span: Span | undefined;
  /** The fields every line about it has. */
  readonly about: object;
  /** Undefined before, and while another try of the same mail is waited for. */
  step: Step | undefined;
}

/** @returns the processor: `token` holds the job's lock, the signal aborts the try. */
export function createJobTaker({ deliver, server, metrics, logger, patience, mostSetAside, tracing }: JobTakerParts) {
  /** Mails set aside, by domain. */
  const slow = new Map<string, number>();
  /** How many in all. */
  let aside = 0;

  function begin(job: Job): Try {
    const span = tracing?.begin(`process ${MAIL_QUEUE}`, 'CONSUMER', textOf(job, 'traceparent'), {
      'messaging.system': 'bullmq',
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.name': MAIL_QUEUE,
      'messaging.message.id': job.id,
      'latchkey.mail.attempt': job.attemptsMade + 1,
    });
    const about = { ...describe(job), ...(span && traceIds(span.traceparent)) };
    return { job, startedAt: performance.now(), span, about, step: undefined };
  }

  /** Counts the try and ends its span. @returns the fields of its line. */
  function finish({ job, startedAt, span, about }: Try, outcome: JobOutcome, failure?: DeliveryFailed) {
    const seconds = (performance.now() - startedAt) / 1000;
    metrics.count(job.name, outcome, { seconds, sinceOwed: (Date.now() - job.timestamp) / 1000 });
    span?.end(
      { 'latchkey.mail.outcome': outcome, ...(failure && { 'latchkey.mail.phase': failure.phase }) },
      failure && String(failure.smtpCode ?? failure.phase),
    );
    return { ...about, outcome, ms: Math.round(seconds * 1000) };
  }

  function reportFailure(failure: DeliveryFailed, one: Try): void {
    const outcome = outcomeOf(failure, one.job);
    const { phase, smtpCode, message } = failure;
    const line = { ...finish(one, outcome, failure), phase, smtp_code: smtpCode, reason: message };
    metrics.countFailure(phase);
    if (outcome === 'retried') logger.warn(line, 'mail not accepted, will be tried again');
    else logger.error(line, 'mail failed, it is in the failed set');
  }

  function reportDelivery(delivered: Delivered, one: Try): void {
    const line = finish(one, delivered.outcome);
    if (delivered.outcome === 'superseded') logger.info(line, 'nothing sent: the link is dead');
    else if (delivered.outcome === 'paced') logger.debug({ ...line, wait: delivered.wait }, 'waits for its turn');
    else if (delivered.outcome === 'already_accepted' || !delivered.triedBefore) logger.info(line, 'mail accepted');
    else {
      metrics.countPossibleDuplicate();
      logger.info({ ...line, tried_before: true }, 'mail accepted');
    }
  }

  /** Delivers and says so. */
  async function attempt(one: Try, signal: AbortSignal): Promise<Delivered> {
    const { id = '', name, data: payload } = one.job;
    const reached = (step: Step) => {
      one.step = step;
    };
    try {
      const delivered = await deliver({ id, name, payload, signal, reached, traceparent: one.span?.traceparent });
      reportDelivery(delivered, one);
      return delivered;
    } catch (error) {
      if (error instanceof DeliveryFailed) reportFailure(error, one);
      throw error;
    }
  }

  /** Has the job come back after so many milliseconds, with no attempt used up. */
  async function comeBack(job: Job, token: string | undefined, milliseconds: number): Promise<never> {
    await job.moveToDelayed(Date.now() + milliseconds, token);
    throw new DelayedError();
  }

  /** Whether a try that takes long should go on. Until its data is begun nothing is lost by giving it up. */
  async function isWorthWaitingFor(one: Try): Promise<boolean> {
    const begun = () => one.step === undefined || one.step === 'data';
    if (begun()) return true;
    const there = await server.answers();
    return begun() || (there && one.step === 'offer');
  }

  /**
   * Looks after a try for as long as it holds its slot.
   * @param tooLong called when it is to be set aside; its connection is counted from then on.
   * @returns what ends the looking.
   */
  function lookAfter(one: Try, going: Promise<unknown>, aborter: AbortController, tooLong: () => void): () => void {
    let over = false;
    let timer = setTimeout(look, patience.after);
    async function look(): Promise<void> {
      // With no connection left it keeps its slot; and asking whether the server is there would be one more.
      const goesOn = aside >= mostSetAside || (await isWorthWaitingFor(one));
      if (over) return;
      if (!goesOn) return aborter.abort(NO_ANSWER);
      if (aside >= mostSetAside) {
        timer = setTimeout(look, patience.after);
        return;
      }
      aside += 1;
      const done = () => {
        aside -= 1;
      };
      going.then(done, done);
      tooLong();
    }
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }

  /** The conversation goes on without the job. It is ended well before the job comes back, and then the ledger knows how. */
  function setAside({ about }: Try, domain: string, going: Promise<unknown>, aborter: AbortController): void {
    logger.warn(about, 'a mail takes long, others go on');
    slow.set(domain, (slow.get(domain) ?? 0) + 1);
    const timer = setTimeout(() => aborter.abort(), patience.endedWithin);
    const done = () => {
      clearTimeout(timer);
      const left = (slow.get(domain) ?? 1) - 1;
      if (left > 0) slow.set(domain, left);
      else slow.delete(domain);
    };
    going.then(done, done);
  }

  /** What BullMQ is told of a try that failed. */
  async function refuse(error: unknown, job: Job, token: string | undefined): Promise<never> {
    if (!(error instanceof DeliveryFailed)) throw error;
    if (error.serverAway) {
      server.away(error.message);
      // To the head of the queue: it is among the oldest.
      await job.moveToWait(token);
      throw new WaitingError();
    }
    // Redis keeps the message and the stack of what is thrown here; a DeliveryFailed holds nothing secret.
    throw error.permanent ? new UnrecoverableError(error.message) : error;
  }

  return async (job: Job, token: string | undefined, signal: AbortSignal | undefined): Promise<void> => {
    const domain = domainOf(textOf(job, 'to') ?? '');
    if ((slow.get(domain) ?? 0) >= SLOW_DOMAIN.mails) return comeBack(job, token, SLOW_DOMAIN.retryAfter);

    const aborter = new AbortController();
    signal?.addEventListener('abort', () => aborter.abort(signal.reason), { once: true });
    const long = Promise.withResolvers<'long'>();
    const one = begin(job);
    const going = attempt(one, aborter.signal);
    const settle = lookAfter(one, going, aborter, () => long.resolve('long'));
    const delivered = await Promise.race([going, long.promise])
      .catch((error: unknown) => refuse(error, job, token))
      .finally(settle);
    if (delivered === 'long') {
      setAside(one, domain, going, aborter);
      return comeBack(job, token, patience.comesBackAfter);
    }
    if (delivered.outcome === 'paced') return comeBack(job, token, delivered.wait);
  };
}

function outcomeOf(failure: DeliveryFailed, job: Job): JobOutcome {
  if (failure.permanent) return failure.phase === 'parse' ? 'invalid' : 'rejected';
  if (failure.serverAway) return 'retried';
  return job.attemptsMade + 1 >= (job.opts.attempts ?? 1) ? 'given_up' : 'retried';
}

/** A field of a payload that nobody has checked yet. */
function textOf({ data }: Job, field: string): string | undefined {
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
