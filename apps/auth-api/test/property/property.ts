/** The property: whatever happens to users in whatever order, system and model say the same. */
import { randomBytes, randomInt } from 'node:crypto';
import fc from 'fast-check';
import { history } from './commands.ts';
import { Difference, play } from './run.ts';
import type { System } from './system.ts';

/** Histories between two looks at how many steps were made. */
const BATCH = 20;
/** Milliseconds a counterexample may be made smaller; what is found until then is told. */
const SHRINK_WITHIN = 30_000;

export const newNamespace = (): string => `latchkey:test-${randomBytes(6).toString('hex')}`;

/** Histories played side by side, each with users of its own: while one waits for Redis another one reckons. */
const LANES = 8;

/** Plays a history and counts its steps. */
const property = (system: System, onStep: (count: number) => void) =>
  fc.asyncProperty(history, (steps) => play(system.lane(), steps, onStep));

/**
 * Plays random histories until `steps` steps were made without a difference.
 * @returns how many.
 * @throws what fast-check says of a difference: the seed and path that make it again, the shortest history that was found, and the difference.
 */
export async function neverParts(system: System, steps: number): Promise<number> {
  let made = 0;
  const always = property(system, (count) => {
    made += count;
  });
  const playOn = async () => {
    while (made < steps)
      await fc.assert(always, { seed: randomInt(2 ** 31), numRuns: BATCH, interruptAfterTimeLimit: SHRINK_WITHIN });
  };
  await Promise.all(Array.from({ length: LANES }, playOn));
  return made;
}

/** Plays random histories until there is a difference. @returns how it reads, undefined: none within `steps` steps. */
export async function partsWithin(system: System, steps: number): Promise<string | undefined> {
  let made = 0;
  let difference: string | undefined;
  const sought = property(system, (count) => {
    made += count;
  });
  const playOn = async () => {
    while (made < steps && difference === undefined) {
      const { failed, errorInstance } = await fc.check(sought, {
        seed: randomInt(2 ** 31),
        numRuns: 1,
        endOnFailure: true,
      });
      // Anything else that is thrown is a fault of the test.
      if (errorInstance instanceof Difference) difference = errorInstance.message;
      else if (failed) throw errorInstance;
    }
  };
  await Promise.all(Array.from({ length: LANES }, playOn));
  return difference;
}
