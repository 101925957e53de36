/**
 * Revoking more than one session: everything until an instant, a suspension, a single token with what came of it.
 * When one of these returns, Redis, PostgreSQL and the revocation log all say so. Each may be repeated.
 */
import { issuedAtOf } from '@latchkey/verifier/token-identity';
import { invalidInput } from '../problems.ts';
import type { RevocationLog } from '../store/revocation-log.ts';
import type { Microseconds, SessionStore } from '../store/sessions.ts';
import type { UserStore } from '../store/users.ts';
import { LATEST, UNTIL_LIFTED } from './instants.ts';
import { isClientJti, readJti } from './token-identity.ts';

const microseconds = (instant: Date): Microseconds => Math.min(instant.getTime() * 1000, LATEST);
const instantOf = (us: Microseconds): Date => (us >= LATEST ? UNTIL_LIFTED : new Date(Math.floor(us / 1000)));
/** Instants are given and shown in milliseconds: what was issued within one was issued at it. */
const endOf = (instant: Date): Microseconds => Math.min(microseconds(instant) + 999, LATEST);

/** @throws {Problem} `invalid_request` for what is no `jti` of ours. */
export function assertJti(jti: string): void {
  if (!readJti(jti) && !isClientJti(jti))
    throw invalidInput('/jti', 'is not the jti of an access token of this issuer');
}

export type RevocationService = ReturnType<typeof createRevocation>;

export interface RevocationOptions {
  sessions: SessionStore;
  users: UserStore;
  log: RevocationLog;
}

export function createRevocation({ sessions, users, log }: RevocationOptions) {
  /** Suspends until then (null: not at all). PostgreSQL's row is held meanwhile: of two operators at once, every store keeps the same one. */
  async function setSuspension(userId: string, until: Date | null, reason: string | null): Promise<void> {
    let failed: unknown;
    await users.rememberSuspension(userId, until, reason, async () => {
      const { cutoff } = await sessions.suspend(userId, until === null ? 0 : microseconds(until));
      // A failure here must not undo what PostgreSQL is told.
      await log.cutOff(userId, cutoff).catch((error: unknown) => {
        failed = error;
      });
    });
    if (failed !== undefined) throw failed;
  }

  /**
   * Has the log say what the user's gate does. Whoever moved that may have failed, or ended, before the log was written; the sessions are gone by
   * then, and nobody who ends sessions would find anything to write.
   */
  const completeCutOff = async (userId: string): Promise<void> =>
    log.assureCutOff(userId, await sessions.cutOffAt(userId));

  return {
    completeCutOff,

    /**
     * Refuses what the user was issued until now, or until `issuedBefore`; an instant to come also closes login until then.
     * @returns the instant until which, its millisecond included, tokens are refused.
     */
    async cutOff(userId: string, issuedBefore: Date | undefined): Promise<Date> {
      // Redis decides the instant, the log tells everyone, PostgreSQL remembers it: last, or while it is away those that ask the store would
      // refuse the tokens and those that read the log accept them. Where the log fails it is written all the same, and the call says so.
      const { cutoff, closedUntil } = await sessions.cutOff(
        userId,
        issuedBefore === undefined ? 'now' : endOf(issuedBefore),
      );
      const validFrom = instantOf(Math.max(cutoff, closedUntil));
      const [told] = await Promise.allSettled([log.cutOff(userId, cutoff)]);
      await users.rememberCutOff(userId, validFrom, closedUntil > 0 ? instantOf(closedUntil) : null);
      if (told.status === 'rejected') throw told.reason;
      return validFrom;
    },

    /**
     * Refuses all the user was issued until now, by Redis and the log alone: for callers that hold the user's row in a transaction and so
     * can't run another statement on it.
     */
    async endAll(userId: string): Promise<void> {
      const { cutoff } = await sessions.cutOff(userId, 'now');
      await log.cutOff(userId, cutoff);
    },

    /** Refuses everything and lets nothing be issued until `until`. */
    suspend: (userId: string, until: Date, reason: string | null): Promise<void> =>
      setSuspension(userId, until, reason),

    /** Ends a suspension; what was issued before its end stays refused. Where there is none nothing changes. */
    liftSuspension: (userId: string): Promise<void> => setSuspension(userId, null, null),

    /**
     * Refuses one access token and ends what was refreshed from it. A client's token stands alone: the log names it by its `jti`.
     * @throws {Problem} as {@link assertJti}.
     */
    async denyToken(jti: string): Promise<void> {
      assertJti(jti);
      const token = readJti(jti);
      // The denylist holds only what is neither expired nor behind a cut-off.
      const [life, now] = await Promise.all([log.life(), sessions.clock()]);
      const expired = issuedAtOf(jti) + life * 1_000_000 < now;
      if (!token) return expired ? undefined : log.denyClientToken(jti);
      const { userId, sessionId, issuedAt } = token;
      const ended = await sessions.endOne(userId, sessionId);
      if (ended.length === 0 && expired) return;
      const cutoff = await sessions.cutOffAt(userId);
      if (ended.length === 0 && issuedAt <= cutoff) await log.assureCutOff(userId, cutoff);
      else await log.denySessions(userId, [sessionId], issuedAt);
    },
  };
}
