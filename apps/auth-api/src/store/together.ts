/** What many ask of Redis at the same moment, in one call: a call costs more than a question. */
import { onServerChange, type RedisConnection } from '@latchkey/shared/redis-connections';

/** Of a call at most: about a millisecond of Redis, in which nobody else is served. */
export const MOST_ASKED = 100;
export const MOST_REFRESHED = 25;

/**
 * Calls in flight at most, and questions that have to wait for a second one to be worth it: Redis then works while answers are dealt with. A call of fewer
 * costs both sides more than it gains.
 */
export const CALLS = 4;
export const ENOUGH = 16;

interface Waiting<Question, Answer> {
  question: Question;
  answer: (answer: Answer) => void;
  fail: (error: unknown) => void;
}

/**
 * @param most questions of a call at most.
 * @param ask one call. It answers each question, in their order; an error among them is that of its question alone.
 * @returns asks one question: at once if nothing is being asked, else with all that come until all of that is answered or they are enough. It rejects
 *   as a command does, also when the connection was made anew while it waited. On Redis Cluster, where users have slots of their own, each is
 *   asked alone and at once.
 */
export function together<Question, Answer>(
  redis: RedisConnection,
  most: number,
  ask: (questions: readonly Question[]) => Promise<readonly (Answer | Error)[]>,
): (question: Question) => Promise<Answer> {
  const waiting: Waiting<Question, Answer>[] = [];
  let underWay = 0;
  let looking = false;
  // Whoever waits has made sure of the Redis that was there (ADR 9).
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
    waiting.length > 0 && (underWay === 0 || (waiting.length >= ENOUGH && underWay < CALLS));

  function askWaiting(): void {
    looking = false;
    while (isTime()) {
      underWay += 1;
      askThese(waiting.splice(0, most), () => {
        underWay -= 1;
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
      if (looking || !isTime()) return;
      looking = true;
      // With those of this turn of the event loop.
      setImmediate(askWaiting);
    });
}
