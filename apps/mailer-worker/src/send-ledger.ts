/**
 * The send ledger: how far each mail got, so that a job seen twice is not mailed twice. A job comes twice when its worker died, when its
 * lock ran out while Redis was away, or when the relay published its row again.
 *
 * | note | means | a retry |
 * | --- | --- | --- |
 * | none | no mail server has seen a byte of the mail's data | sends |
 * | `reserved:<instant>` | the same, and until then it has to wait for its turn (pacing.ts) | waits |
 * | `sending` | the data was begun, and nobody knows how that ended | sends: a mail that comes twice is better than none |
 * | `accepted` | a mail server has taken it | only reports again |
 * | `withdrawn` | its link is dead (written by auth-api) | ends |
 * | `failed:<note before>:<why, JSON>` | a try that had been set aside (pacing.ts) failed for good | ends in the failed set, and the note with it |
 */
import { hash } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import type { RedisConnection } from '@latchkey/shared/redis-connections';
import { MAIL_LEDGER_TTL, type RedisKeys } from '@latchkey/shared/redis-keys';
import { DeliveryFailed, type Phase } from './deliver.ts';
import { defineScript } from './lua.ts';
import { domainOf, type Pace, type Pacing } from './pacing.ts';

/**
 * Milliseconds for which a refused note of acceptance is tried again (Redis out of memory, a failover). A Redis that is merely away
 * costs none of it: the connection waits by itself.
 */
const RECORD_FOR = 60_000;
const RECORD_PAUSE = 250;

/** Notes that end a mail. */
export type Ended = 'accepted' | 'withdrawn';

/** A {@link DeliveryFailed} as it is noted. */
interface NotedFailure {
  readonly phase: Phase;
  readonly reason: string;
  readonly permanent: boolean;
  readonly smtpCode?: number | undefined;
}

export function createSendLedger(redis: RedisConnection, keys: RedisKeys, { domain, recipient }: Pacing) {
  const takeMail = defineScript<'go' | Ended | number | [why: string]>(redis, 'take-mail-3.lua');
  const noteSending = defineScript<'sending' | Ended | null>(redis, 'note-sending-1.lua');
  const recordAccepted = defineScript<'RECORDED'>(redis, 'record-accepted-2.lua');
  const noteFailure = defineScript<0 | 1>(redis, 'note-failure-1.lua');
  const forgetSending = defineScript<0 | 1>(redis, 'forget-sending-1.lua');
  const limits = (pace: Pace) => [1000 / pace.perSecond, pace.burst];

  return {
    /**
     * Whether the mail may be sent now; or how it has ended, or how many milliseconds it has to wait.
     * @throws {DeliveryFailed} what {@link noteFailure} has noted, once.
     */
    async take(mailId: string, to: string): Promise<'go' | Ended | number> {
      const verdict = await takeMail(
        [
          keys.mailLedger(mailId),
          keys.mailPace('domain', domainOf(to)),
          keys.mailPace('recipient', hash('sha256', to.toLowerCase(), 'base64url')),
        ],
        [MAIL_LEDGER_TTL, ...limits(domain), ...limits(recipient)],
      );
      if (!Array.isArray(verdict)) return verdict;
      const { phase, reason, ...more }: NotedFailure = JSON.parse(verdict[0]);
      throw new DeliveryFailed(phase, reason, { ...more, remembered: true });
    },

    /** Notes how a mail failed whose job is away, for when it comes back. Like {@link noteSending} it overwrites no end. */
    async noteFailure(mailId: string, { phase, reason, permanent, smtpCode }: DeliveryFailed): Promise<void> {
      const failure: NotedFailure = { phase, reason, permanent, smtpCode };
      await noteFailure([keys.mailLedger(mailId)], [JSON.stringify(failure), MAIL_LEDGER_TTL]);
    },

    /**
     * The last gate: notes that the mail's data is about to be sent, and in the same command learns what was noted before. It never
     * overwrites the note of an end, which a worker that was frozen for a while might otherwise do.
     * @returns the earlier note: `sending` when an earlier try got this far; an end when the mail must not be sent.
     */
    noteSending: async (mailId: string): Promise<'sending' | Ended | undefined> =>
      (await noteSending([keys.mailLedger(mailId)], ['sending', MAIL_LEDGER_TTL])) ?? undefined,

    /** Takes the note of {@link noteSending} back: the server has refused the data. Not for a note that was there before. */
    async forgetSending(mailId: string): Promise<void> {
      await forgetSending([keys.mailLedger(mailId)]);
    },

    /**
     * Notes that a mail server has taken the mail and tells auth-api, in one script. From SMTP's 250 to the end of this call is
     * the one window in which a crash mails twice, so a refused write is tried again before it counts as failed.
     */
    async recordAccepted(mailId: string): Promise<void> {
      const deadline = performance.now() + RECORD_FOR;
      for (;;) {
        try {
          await recordAccepted([keys.mailLedger(mailId), keys.mailAccepted], [mailId, MAIL_LEDGER_TTL]);
          return;
        } catch (error) {
          if (performance.now() + RECORD_PAUSE > deadline) throw error;
          await wait(RECORD_PAUSE);
        }
      }
    },
  };
}

export type SendLedger = ReturnType<typeof createSendLedger>;
