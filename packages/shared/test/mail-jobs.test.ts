import { describe, expect, test } from 'vitest';
import { InvalidMailJob, MAIL_JOB_OPTIONS, mailBackoff, parseMailJob } from '../src/mail-jobs.ts';

const activation = {
  v: 1,
  to: 'ada@example.test',
  locale: 'de',
  request_id: 'r-1',
  user_id: '0197fa0e-1c1b-7cc2-9d5b-1f6d0a3a9a11',
  attempt: 1,
};

describe('a mail job', () => {
  test('of the contract is accepted', () => {
    expect(parseMailJob('activation', activation)).toEqual({ name: 'activation', payload: activation });
  });

  test('of a newer release, with fields this one does not know, is accepted', () => {
    expect(parseMailJob('activation', { ...activation, priority: 'high' }).payload).toMatchObject(activation);
  });

  test.each([
    ['without an address', { ...activation, to: undefined }, 'to'],
    ['of no version', { ...activation, v: '2' }, 'v'],
    ['with an attempt that is none', { ...activation, attempt: 0 }, 'attempt'],
    ['with neither an attempt nor several registrations', { ...activation, attempt: undefined }, 'attempt'],
    ['with both', { ...activation, several: true }, 'attempt'],
    ['with a user that is none', { ...activation, user_id: 'ada' }, 'user_id'],
  ])('%s is refused, naming the field and not its value', (_name, payload, field) => {
    expect(() => parseMailJob('activation', payload)).toThrow(InvalidMailJob);
    expect(() => parseMailJob('activation', payload)).toThrow(field);
    expect(() => parseMailJob('activation', payload)).not.toThrow('ada@example.test');
  });

  test('of an unknown name, or a higher version, is refused as one that a newer release may mean; a broken one is not', () => {
    const refusal = (name: string, payload: object) => {
      try {
        return parseMailJob(name, payload);
      } catch (error) {
        return error;
      }
    };
    for (const refused of [refusal('birthday', activation), refusal('activation', { v: 2 })]) {
      expect(refused).toBeInstanceOf(InvalidMailJob);
      expect(refused).toMatchObject({ newer: true });
    }
    expect(refusal('activation', { ...activation, attempt: 0 })).toMatchObject({ newer: false });
    expect(refusal('activation', { v: 0 })).toMatchObject({ newer: false });
  });
});

test('retries start within seconds, never all at once, and go on for at least 72 hours', () => {
  const middle = (attempt: number) => mailBackoff(attempt, () => 0.5);
  expect(middle(1)).toBe(5000);
  expect(mailBackoff(1, () => 0)).toBeLessThan(mailBackoff(1, () => 0.999));
  const waits = Array.from({ length: MAIL_JOB_OPTIONS.attempts - 1 }, (_, index) => mailBackoff(index + 1, () => 0));
  expect(waits.reduce((sum, wait) => sum + wait, 0)).toBeGreaterThanOrEqual(72 * 60 * 60 * 1000);
});
