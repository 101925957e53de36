/**
 * Revoking more than one session: everything until an instant, a suspension, a single token with what came of it.
 * When one of these returns, Redis, PostgreSQL and the revocation log all say so. Each may be repeated.
 */
import { Problem } from '../problems.ts';
import type { RevocationLog } from '../store/revocation-log.ts';
import type { Gate, Microseconds, SessionStore } from '../store/sessions.ts';
import type { UserStore } from '../store/users.ts';
import { isClientJti, readJti } from './token-identity.ts';

/** 9999-12-31T23:59:59Z: a suspension until it is lifted. (Below 2^53 microseconds only until 2255, so Redis is told the end of that.) */
export const UNTIL_LIFTED = new Date('9999-12-31T23:59:59Z');
const LATEST: Microseconds = Number.MAX_SAFE_INTEGER - 1;

const microseconds = (instant: Date): Microseconds => Math.min(instant.getTime() * 1000, LATEST);
const instantOf = (us: Microseconds): Date => (us >= LATEST ? UNTIL_LIFTED : new Date(Math.ceil(us / 1000)));

export type RevocationService = ReturnType<typeof createRevocation>;

export function createRevocation({
  sessions,
  users,
  log,
}: {
  sessions: SessionStore;
  users: UserStore;
  log: RevocationLog;
}) {
  /** Redis decides the instant, PostgreSQL remembers it, the log tells everyone. */
  async function publish(userId: string, gate: Gate, now: number): Promise<Date> {
    const validFrom = instantOf(Math.max(gate.cutoff, gate.closedUntil));
    await users.rememberCutOff(userId, validFrom);
    await log.cutOff(userId, gate.cutoff, now);
    return validFrom;
  }

  return {
    /**
     * Refuses what the user was issued until now, or until `issuedBefore`; an instant to come also closes login until then.
     * @param now milliseconds
     * @returns from when on tokens are good.
     */
    async cutOff(userId: string, issuedBefore: Date | undefined, now: number): Promise<Date> {
      const gate = await sessions.cutOff(userId, issuedBefore === undefined ? 'now' : microseconds(issuedBefore));
      return publish(userId, gate, now);
    },

    /** Refuses everything and lets nothing be issued until `until`. @param now milliseconds */
    async suspend(userId: string, until: Date, reason: string | null, now: number): Promise<void> {
      // PostgreSQL first: a suspension Redis knows but PostgreSQL does not would end with Redis.
      await users.rememberSuspension(userId, until, reason);
      await publish(userId, await sessions.suspend(userId, microseconds(until)), now);
    },

    /** Ends a suspension; what was issued before its end stays refused. @param now milliseconds */
    async liftSuspension(userId: string, now: number): Promise<void> {
      await publish(userId, await sessions.suspend(userId, 0), now);
      await users.rememberSuspension(userId, null, null);
    },

    /**
     * Refuses one access token and ends what was refreshed from it. A client's token stands alone: the log names it by its `jti`.
     * @param now milliseconds
     * @throws {Problem} `invalid_request` for what is no `jti` of ours.
     */
    async denyToken(jti: string, now: number): Promise<void> {
      if (isClientJti(jti)) return log.denySessions([jti], now);
      const token = readJti(jti);
      if (!token)
        throw new Problem('invalid_request', {
          errors: [{ pointer: '/jti', detail: 'is not the jti of an access token of this issuer' }],
        });
      await sessions.endOne(token.userId, token.sessionId);
      await log.denySessions([token.sessionId], now, token.issuedAt);
    },
  };
}
