/** Questions that are put to Redis at the same moment go in one call: a call costs more than a question. */
import { onServerChange, type RedisConnection } from '@latchkey/shared/redis-connections';

/** Questions of one call at most: about a millisecond of Redis, in which nobody else is served. */
export const MAX_BATCH = 100;
export const MAX_REFRESH_BATCH = 25;

/** Calls in flight at most. */
export const MAX_IN_FLIGHT = 4;
/** Questions that make another call beside one in flight worth it: Redis works while answers are dealt with, but fewer cost more than that gains. */
export const MIN_CONCURRENT_BATCH = 16;

interface Waiting<Question, Answer> {
  question: Question;
  answer: (answer: Answer) => void;
  fail: (error: unknown) => void;
}

/**
 * @param most questions of a call at most.
 * @param ask one call. It answers each question, in their order; an error among them is that of its question alone.
 * @returns asks one question: at once if no call is in flight, else with those that come until none is or {@link MIN_CONCURRENT_BATCH} wait.
 *   It rejects as a command does, also when the connection was made anew while it waited. On Redis Cluster, where users have slots of their
 *   own, each is asked alone and at once.
 */
export function batched<Question, Answer>(
  redis: RedisConnection,
  most: number,
  ask: (questions: readonly Question[]) => Promise<readonly (Answer | Error)[]>,
): (question: Question) => Promise<Answer> {
  const waiting: Waiting<Question, Answer>[] = [];
  let inFlight = 0;
  let scheduled = false;
  // A caller that waits has made sure of the Redis that was there (ADR 9), not of the next one.
  onServerChange(redis, () => {
    for (const { fail } of waiting.splice(0)) fail(new Error('Redis connection is not ready: it was made anew'));
  });

  function askThese(asked: readonly Waiting<Question, Answer>[], goOn: () => void): void {
    ask(asked.map(({ question }) => question)).then(
      (answers) => {
        // Redis answers the next ones while these are dealt with.
        goOn();
        for (const [index, said] of answers.entries()) {
          if (said instanceof Error) asked[index]?.fail(said);
          else asked[index]?.answer(said);
        }
      },
      (error) => {
        goOn();
        for (const { fail } of asked) fail(error);
      },
    );
  }

  const isTime = (): boolean =>
    waiting.length > 0 && (inFlight === 0 || (waiting.length >= MIN_CONCURRENT_BATCH && inFlight < MAX_IN_FLIGHT));

  function askWaiting(): void {
    scheduled = false;
    while (isTime()) {
      inFlight += 1;
      askThese(waiting.splice(0, most), () => {
        inFlight -= 1;
        askWaiting();
      });
    }
  }

  return (question) =>
    new Promise((answer, fail) => {
      const one = { question, answer, fail };
      if (redis.isCluster) {
        askThese([one], () => undefined);
        return;
      }
      waiting.push(one);
      if (scheduled || !isTime()) return;
      scheduled = true;
      // With those of this turn of the event loop.
      setImmediate(askWaiting);
    });
}
