/** Ending sessions. When one of these returns, the sessions' refresh tokens are dead and the revocation log says so of their access tokens. */
import { Problem } from '../problems.ts';
import type { RevocationLog } from '../store/revocation-log.ts';
import type { SessionStore } from '../store/sessions.ts';

export type Sessions = ReturnType<typeof createSessions>;

/**
 * Two writes, because the user's slot and the log's are not one in a Redis Cluster: the session first, then the log. If the second
 * fails the caller hears of it, the access token still opens the call that repeats it, and the script names the session again.
 */
export function createSessions(store: SessionStore, revocations: RevocationLog) {
  return {
    list: store.list,

    /** @throws {Problem} `session_unknown` */
    async end(userId: string, sessionId: string): Promise<void> {
      const ended = await store.endOne(userId, sessionId);
      if (ended.length === 0) throw new Problem('session_unknown');
      await revocations.denySessions(ended);
    },

    /** The session the caller's own access token names: it may be gone from Redis already, its access token must die all the same. */
    async endCurrent(userId: string, sessionId: string): Promise<void> {
      await store.endOne(userId, sessionId);
      await revocations.denySessions([sessionId]);
    },

    /** @param current the session of the caller: refused too, even if Redis no longer knows it. */
    async endAll(userId: string, current: string): Promise<void> {
      await revocations.denySessions([...new Set([...(await store.endAll(userId)), current])]);
    },

    async endOthers(userId: string, current: string): Promise<void> {
      const ended = await store.endOthers(userId, current);
      await revocations.denySessions(ended.filter((id) => id !== current));
    },
  };
}
