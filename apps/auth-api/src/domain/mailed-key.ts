/** What a mailed key is worth: the record of the key says for which attempt it was made, PostgreSQL which attempt counts (ADR 4). */
import type { MailKeyRecord } from '../store/mail-keys.ts';

/** Why a key does nothing. A key replaced by a newer one, or made void, is as good as `unknown`. */
export type DeadKey = { status: 'expired' | 'used' | 'unknown' };

/** @param counters the attempt that counts, and the one that was spent last. */
export function keyStatus(
  { attempt, worksFor }: MailKeyRecord,
  counters: { attempt: number; spent: number },
): 'pending' | DeadKey['status'] {
  if (attempt === counters.spent) return 'used';
  if (attempt !== counters.attempt) return 'unknown';
  return worksFor > 0 ? 'pending' : 'expired';
}
