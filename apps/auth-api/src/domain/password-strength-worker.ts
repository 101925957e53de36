/**
 * What the thread runs that says whether a new password is easy to guess. A thread of its own, because its dictionaries take 100 MB and most of
 * a second to load: the threads that hash, one for each core, do without them.
 */
import { ZxcvbnFactory } from '@zxcvbn-ts/core';
import { adjacencyGraphs, dictionary as commonDictionary } from '@zxcvbn-ts/language-common';
import { dictionary as englishDictionary } from '@zxcvbn-ts/language-en';
import { yieldToOthers } from './low-priority.ts';

yieldToOthers();

/** Characters: NIST SP 800-63B section 5.1.1.2. */
const SHORTEST = 8;
/** zxcvbn's 0–4: 2 is "protects from unthrottled online attacks", and ours are throttled. */
const LEAST_SCORE = 2;
/**
 * zxcvbn is superlinear in the length (28 characters: 7 ms, but up to ten times that for sequences and substitutions), and its answer for the
 * start of a password is a lower bound: the rest is looked at only where the start is not good enough, up to what holds a long address.
 */
const FIRST_LOOK = 16;
const LONGEST_LOOK = 48;

const strength = new ZxcvbnFactory({
  dictionary: { ...commonDictionary, ...englishDictionary },
  graphs: adjacencyGraphs,
});

export interface StrengthTask {
  password: string;
  /** What an attacker would try first. */
  knownToOthers: string[];
}

function isStrong(password: string, knownToOthers: readonly string[]): boolean {
  if ([...password].length < SHORTEST) return false;
  const strongBy = (length: number) =>
    strength.check(password.slice(0, length), [...knownToOthers]).score >= LEAST_SCORE;
  // A name or an address that is cut in two is not recognised any more.
  const personal = knownToOthers.some((known) =>
    password.toLowerCase().includes(known.toLowerCase().slice(0, FIRST_LOOK)),
  );
  return (!personal && strongBy(FIRST_LOOK)) || strongBy(LONGEST_LOOK);
}

export default ({ password, knownToOthers }: StrengthTask): boolean =>
  isStrong(password.normalize('NFKC'), knownToOthers);
