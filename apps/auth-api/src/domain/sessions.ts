/** Ending sessions. When one of these returns, the sessions' refresh tokens are dead and the revocation log says so of their access tokens. */
import type { RevocationCopy } from '@latchkey/verifier/revocation-copy';
import { Problem } from '../problems.ts';
import { knownEpoch, type RevocationLog } from '../store/revocation-log.ts';
import type { SessionRecord, SessionStore } from '../store/sessions.ts';
import type { Audit } from './audit.ts';
import type { RequestContext } from './request-context.ts';
import type { RevocationService } from './revocation.ts';

export type Sessions = ReturnType<typeof createSessions>;

export interface SessionsOptions {
  store: SessionStore;
  log: RevocationLog;
  revocation: RevocationService;
  audit: Audit;
  copy: RevocationCopy;
}

/**
 * Two writes, because the user's slot and the log's are not one in a Redis Cluster: the session first, then the log. If the second
 * fails the caller hears of it, the access token still opens the call that repeats it, and the script names the session again.
 */
export function createSessions({ store, log, revocation, audit, copy }: SessionsOptions) {
  return {
    list: async (userId: string): Promise<SessionRecord[]> => store.list(userId, knownEpoch(copy).born),

    /** @throws {Problem} `session_unknown` */
    async end(userId: string, sessionId: string, context: RequestContext): Promise<void> {
      const ended = await store.endOne(userId, sessionId);
      if (ended.length === 0) {
        await revocation.completeCutOff(userId);
        throw new Problem('session_unknown');
      }
      await log.denySessions(userId, ended);
      audit.noteOwn('session.ended', userId, context, { session_id: sessionId });
    },

    /** The session the caller's own access token names: it may be gone from Redis already, its access token must die all the same. */
    async endCurrent(userId: string, sessionId: string, context: RequestContext): Promise<void> {
      await store.endOne(userId, sessionId);
      await log.denySessions(userId, [sessionId]);
      audit.noteOwn('session.ended', userId, context, { session_id: sessionId });
    },

    /** Logout everywhere is a cut-off: one write, however many sessions. */
    async endAll(userId: string, context: RequestContext): Promise<void> {
      await revocation.cutOff(userId, undefined);
      audit.noteOwn('sessions.ended', userId, context);
    },

    /** @param context left out where another event tells of it. */
    async endOthers(userId: string, current: string, context?: RequestContext): Promise<void> {
      const ended = await store.endOthers(userId, current);
      await revocation.completeCutOff(userId);
      await log.denySessions(
        userId,
        ended.filter((id) => id !== current),
      );
      if (context) audit.noteOwn('sessions.ended', userId, context, { except: current });
    },
  };
}
