/** What many ask of Redis at the same moment, in one call: a call costs more than a question. */
import type { RedisConnection } from '@latchkey/shared/redis-connections';

/** Of a call at most: about a millisecond of Redis, in which nobody else is served. */
export const MOST_ASKED = 100;
export const MOST_REFRESHED = 25;

interface Waiting<Question, Answer> {
  question: Question;
  answer: (answer: Answer) => void;
  fail: (error: unknown) => void;
}

/**
 * @param most questions of a call at most.
 * @param ask one call. It answers each question, in their order; an error among them is that of its question alone.
 * @returns asks one question, together with all of the same turn of the event loop.
 */
export function together<Question, Answer>(
  redis: RedisConnection,
  most: number,
  ask: (questions: readonly Question[]) => Promise<readonly (Answer | Error)[]>,
): (question: Question) => Promise<Answer> {
  // Users have slots of their own.
  const atOnce = redis.isCluster ? 1 : most;
  let waiting: Waiting<Question, Answer>[] = [];

  async function askThese(asked: readonly Waiting<Question, Answer>[]): Promise<void> {
    try {
      const answers = await ask(asked.map(({ question }) => question));
      for (const [index, said] of answers.entries()) {
        if (said instanceof Error) asked[index]?.fail(said);
        else asked[index]?.answer(said);
      }
    } catch (error) {
      for (const { fail } of asked) fail(error);
    }
  }

  function askAll(): void {
    const asked = waiting;
    waiting = [];
    for (let first = 0; first < asked.length; first += atOnce) void askThese(asked.slice(first, first + atOnce));
  }

  return (question) =>
    new Promise((answer, fail) => {
      if (waiting.push({ question, answer, fail }) === 1) setImmediate(askAll);
    });
}
