/** The mails of this worker that are set aside: their conversations with a mail server go on, their jobs have left their slots (pacing.ts). */
import { SLOW_DOMAIN } from './pacing.ts';

/** @param most as many at once, of all domains. */
export function createSlowMails(most: number) {
  const ofDomain = new Map<string, number>();
  let all = 0;

  function change(domain: string, by: 1 | -1): void {
    all += by;
    const left = (ofDomain.get(domain) ?? 0) + by;
    if (left > 0) ofDomain.set(domain, left);
    else ofDomain.delete(domain);
  }

  return {
    /** Whether one more may be set aside: whether a connection is left for it. */
    hasRoom: (): boolean => all < most,

    /** Whether so many to this domain are set aside that no other to it is begun. */
    isFull: (domain: string): boolean => (ofDomain.get(domain) ?? 0) >= SLOW_DOMAIN.mails,

    /** One more, until its conversation has ended. */
    add(domain: string, conversation: Promise<unknown>): void {
      change(domain, 1);
      const done = () => change(domain, -1);
      conversation.then(done, done);
    },
  };
}
