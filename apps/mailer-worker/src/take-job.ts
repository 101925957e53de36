/** One try of one job, and what BullMQ is told of it: done, come again, or never again. */
import { setTimeout as wait } from 'node:timers/promises';
import { DelayedError, type Job, UnrecoverableError, WaitingError } from 'bullmq';
import { type Delivered, DeliveryFailed, type IncomingJob, NO_ANSWER, type Step } from './deliver.ts';
import { type FailedOutcome, type JobReport, textOf } from './job-report.ts';
import type { MailServerWatch } from './mail-server-watch.ts';
import { domainOf, type Patience, SLOW_DOMAIN } from './pacing.ts';
import type { SendLedger } from './send-ledger.ts';
import type { createSlowMails } from './slow-mails.ts';

export interface JobTakerParts {
  readonly deliver: (job: IncomingJob) => Promise<Delivered>;
  readonly ledger: Pick<SendLedger, 'noteFailure'>;
  readonly server: MailServerWatch;
  readonly report: (job: Job) => JobReport;
  readonly patience: Patience;
  readonly slow: ReturnType<typeof createSlowMails>;
}

/**
 * The mail goes on without its job, which has used an attempt: nobody knows yet how it will end. Thrown, because BullMQ counts an attempt
 * only of a job that fails; its `backoffStrategy` is told of it, and says when the job comes back.
 */
export class SetAside extends Error {
  override readonly name = 'SetAside';

  constructor() {
    super('the mail server takes long: set aside');
  }
}

/** Why a try is aborted that is under way when the worker stops. */
const STOPPING = new Error('the worker stops');

/** One try of a job. */
interface Try {
  readonly job: Job;
  readonly domain: string;
  /** As it began: BullMQ counts an attempt in the job itself when it leaves, and the try of a mail set aside goes on. */
  readonly isLastAttempt: boolean;
  readonly report: JobReport;
  /** Ends it. */
  readonly aborter: AbortController;
  step: Step;
  isAside: boolean;
}

export function createJobTaker({ deliver, ledger, server, report, patience, slow }: JobTakerParts) {
  const underway = new Map<Try, Promise<unknown>>();

  /** Delivers and says so. */
  async function attempt(one: Try): Promise<Delivered> {
    const { id = '', name, data: payload } = one.job;
    const reached = (step: Step) => {
      one.step = step;
    };
    const { traceparent } = one.report;
    try {
      const delivered = await deliver({ id, name, payload, signal: one.aborter.signal, reached, traceparent });
      one.report.delivered(delivered);
      return delivered;
    } catch (error) {
      if (error instanceof DeliveryFailed) await fail(one, error);
      throw error;
    }
  }

  /** The job of a mail set aside has left: what ends it is left for it in the ledger. Where that can't be done it is tried again. */
  async function fail(one: Try, failure: DeliveryFailed): Promise<void> {
    const { job, report } = one;
    const outcome = outcomeOf(failure, one);
    if (isCutShort(one, failure)) return report.failed(failure, 'retried');
    if (!one.isAside || outcome === 'retried') return report.failed(failure, outcome);
    await ledger.noteFailure(job.id ?? '', failure).then(
      () => report.failedAside(failure, outcome),
      () => report.failed(failure, 'retried'),
    );
  }

  /** Whether a try that takes long should go on. Until its data is begun nothing is lost by giving it up. */
  async function isWorthWaitingFor(one: Try): Promise<boolean> {
    const canBeGivenUp = () => one.step === 'connect' || one.step === 'offer';
    if (!canBeGivenUp()) return true;
    const there = await server.answers();
    return !canBeGivenUp() || (there && one.step === 'offer');
  }

  /**
   * Looks after a try for as long as it holds its slot, and sets it aside when it takes long.
   * @param over aborts the looking: the try has ended.
   * @returns once it is set aside, or with what ends the try.
   */
  async function lookAfter(one: Try, going: Promise<Delivered>, over: AbortSignal): Promise<Delivered | 'aside'> {
    for (;;) {
      await wait(patience.after, undefined, { signal: over });
      // With no connection left it keeps its slot; and asking whether the server is there would be one more.
      if (!slow.hasRoom()) continue;
      const goesOn = await isWorthWaitingFor(one);
      if (over.aborted) return going;
      if (!goesOn) {
        one.aborter.abort(NO_ANSWER);
        return going;
      }
      if (!slow.hasRoom()) continue;
      setAside(one, going);
      return 'aside';
    }
  }

  /** The conversation goes on without the job. It is ended well before the job comes back, and then the ledger knows how. */
  function setAside(one: Try, going: Promise<Delivered>): void {
    one.isAside = true;
    one.report.setAside();
    slow.add(one.domain, going);
    const timer = setTimeout(() => one.aborter.abort(), patience.endedWithin);
    const done = () => clearTimeout(timer);
    going.then(done, done);
  }

  /** Has BullMQ bring the job back after the conversation. The last attempt is left to it: used up now, the job would be failed at once. */
  async function throwSetAside({ job, isLastAttempt }: Try, token: string | undefined): Promise<never> {
    if (isLastAttempt) return throwDelayed(job, token, patience.comesBackAfter);
    throw new SetAside();
  }

  /** Tells BullMQ of a try that failed. */
  async function throwFailure(error: unknown, one: Try, token: string | undefined): Promise<never> {
    if (!(error instanceof DeliveryFailed)) throw error;
    const { job } = one;
    if (error.serverAway || isCutShort(one, error)) {
      if (error.serverAway) server.away(error.message);
      // To the head of the queue: it is among the oldest.
      await job.moveToWait(token);
      throw new WaitingError();
    }
    // Redis keeps the message and the stack of what is thrown here; a DeliveryFailed holds nothing secret.
    throw error.permanent ? new UnrecoverableError(error.message) : error;
  }

  /** Looks after the try while its job is held, and tells BullMQ how that ends. */
  async function hold(one: Try, going: Promise<Delivered>, token: string | undefined): Promise<void> {
    const { job } = one;
    const over = new AbortController();
    const end = await Promise.race([going, lookAfter(one, going, over.signal)])
      .finally(() => over.abort())
      .catch((error: unknown) => throwFailure(error, one, token));
    if (end === 'aside') return throwSetAside(one, token);
    if (end.outcome === 'paced') return throwDelayed(job, token, end.wait);
  }

  return {
    /** BullMQ's processor. @param token holds the job's lock. */
    async take(job: Job, token: string | undefined): Promise<void> {
      const domain = domainOf(textOf(job, 'to') ?? '');
      if (slow.isFull(domain)) return throwDelayed(job, token, SLOW_DOMAIN.retryAfter);

      const one: Try = {
        job,
        domain,
        isLastAttempt: job.attemptsMade + 1 >= (job.opts.attempts ?? 1),
        report: report(job),
        aborter: new AbortController(),
        step: 'prepare',
        isAside: false,
      };
      const going = attempt(one);
      const held = hold(one, going, token);
      underway.set(
        one,
        Promise.allSettled([going, held]).finally(() => underway.delete(one)),
      );
      return held;
    },

    /** Mails under way: their jobs are held, or they are set aside. */
    underway: (): number => underway.size,

    /** Resolves once all mails now under way have ended. */
    ended: (): Promise<unknown> => Promise.all(underway.values()),

    /** Ends their conversations. */
    abortAll(): void {
      for (const { aborter } of underway.keys()) aborter.abort(STOPPING);
    },
  };
}

/** Has the job come back after so many milliseconds, with no attempt used up. */
async function throwDelayed(job: Job, token: string | undefined, milliseconds: number): Promise<never> {
  await job.moveToDelayed(Date.now() + milliseconds, token);
  throw new DelayedError();
}

/** The worker stops, and that has ended the conversation: nothing is known of the mail, and no attempt used. */
const isCutShort = ({ aborter }: Try, failure: DeliveryFailed): boolean =>
  aborter.signal.reason === STOPPING && !failure.permanent;

function outcomeOf(failure: DeliveryFailed, { isLastAttempt }: Try): FailedOutcome {
  if (failure.permanent) return failure.phase === 'parse' ? 'invalid' : 'rejected';
  return !failure.serverAway && isLastAttempt ? 'given_up' : 'retried';
}
