/**
 * How fast mails leave, all workers together: every number of it is here. A mail that is too fast is delayed, never dropped, and while it
 * waits it holds no worker, so nobody waits for it.
 *
 * The bounds are far above what people registering make, and there for what is not that: the backlog of an outage, an attack.
 */
import { domainToASCII } from 'node:url';

/** A token bucket: so many at once, and then so many a second. */
export interface Pace {
  readonly burst: number;
  readonly perSecond: number;
}

export interface Pacing {
  readonly domain: Pace;
  readonly recipient: Pace;
}

/**
 * To one mailbox: auth-api lets 10 mails an hour be asked for (apps/auth-api/src/rate-limits.ts); this is the net below it, for what it does
 * not count (notices) and for when it can't. It is wide: where others limit (`RATE_LIMITS=off`), each mail leaves at once.
 */
const RECIPIENT: Pace = { burst: 500, perSecond: 0.5 };

/** Seconds' worth of mails that may go to one domain at once. */
const DOMAIN_BURST = 10;

/** @param domainRate `MAIL_DOMAIN_RATE`, mails a second. */
export const pacing = (domainRate: number): Pacing => ({
  domain: { burst: domainRate * DOMAIN_BURST, perSecond: domainRate },
  recipient: RECIPIENT,
});

/** Milliseconds, see {@link SLOW_MAIL}. */
export interface Patience {
  readonly after: number;
  readonly endedWithin: number;
  readonly comesBackAfter: number;
}

/**
 * A mail that takes longer than `after` is set aside: its conversation with the mail server goes on, but its job leaves the worker's slot to
 * another mail. The conversation is ended `endedWithin` after that, more than the 10 minutes RFC 5321 section 4.5.3.2.6 asks to wait for the
 * last answer; the job comes back, with an attempt used, when it surely has ended, and learns from the ledger how. Milliseconds.
 *
 * With no connection left for another mail it keeps its slot. And one whose data is not begun is given back to the queue when it has no
 * connection yet, or when nobody gets one now: then no mail is slow, the mail server is away.
 */
export const SLOW_MAIL: Patience = { after: 5_000, endedWithin: 11 * 60_000, comesBackAfter: 12 * 60_000 };

/** With so many mails to one domain set aside, a worker begins no other to it, and looks again after so many milliseconds. */
export const SLOW_DOMAIN = { mails: 5, retryAfter: 10_000 };

/** The part of a worker's connections that stays for mails set aside, however many slots are asked for. */
const KEPT_FOR_SLOW = 0.2;

/**
 * How a worker's connections are shared, so that each mail it begins has one.
 * @param concurrency `WORKER_CONCURRENCY`.
 */
export function shareConnections(connections: number, concurrency: number) {
  const slots = Math.min(concurrency, Math.ceil(connections * (1 - KEPT_FOR_SLOW)));
  return { slots, mostSetAside: connections - slots };
}

/** The domain of an address in the form in which domains are compared. */
export function domainOf(address: string): string {
  const domain = address.slice(address.lastIndexOf('@') + 1).toLowerCase();
  return domainToASCII(domain) || domain;
}
