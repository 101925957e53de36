/**
 * What operators do to accounts and tokens. Each act is recorded first, so that none can go unrecorded; when it then fails, the event says
 * that it was tried, and repeating it is recorded again.
 */
import { invalidInput, Problem } from '../problems.ts';
import type { AuditActor, AuditEvent, AuditType } from '../store/audit.ts';
import type { Directory } from '../store/directory.ts';
import type { RevocationLog } from '../store/revocation-log.ts';
import type { SessionRecord, SessionStore } from '../store/sessions.ts';
import type { WithdrawMails } from '../store/users.ts';
import type { Audit } from './audit.ts';
import type { ClientCredentials, Clients, PresentedCredentials } from './clients.ts';
import { isUntilLifted, UNTIL_LIFTED } from './instants.ts';
import type { Introspected, Introspection, KnownToken } from './introspection.ts';
import type { RequestContext } from './request-context.ts';
import { assertJti, type RevocationService } from './revocation.ts';
import { CLIENT_SCOPES } from './scopes.ts';
import type { Sessions } from './sessions.ts';
import type { SigningKeys } from './signing-keys.ts';
import { readJti } from './token-identity.ts';

export type Operators = ReturnType<typeof createOperators>;

/** Who acts, and by which request. */
export interface Act {
  clientId: string;
  context: RequestContext;
}

export interface OperatorsOptions {
  users: Directory;
  sessions: SessionStore;
  listSessions: Sessions['list'];
  log: RevocationLog;
  revocation: RevocationService;
  clients: Clients;
  introspection: Introspection;
  signingKeys: SigningKeys;
  audit: Audit;
  withdrawMails: WithdrawMails;
}

const actorOf = ({ clientId }: Act): AuditActor => ({ type: 'client', id: clientId });

export function createOperators(options: OperatorsOptions) {
  const { users, sessions, listSessions, log, revocation, clients, introspection, signingKeys, audit, withdrawMails } =
    options;

  const record = (act: Act, type: AuditType, userId: string | null, details: Record<string, string | null> = {}) =>
    audit.record({ type, actor: actorOf(act), userId, context: act.context, details });

  /** Recorded in the transaction that does it (store/signing-keys.ts). */
  const keyEvent = (act: Act, type: AuditType): AuditEvent => ({
    type,
    actor: actorOf(act),
    userId: null,
    context: act.context,
  });

  /** @throws {Problem} `user_unknown` */
  async function user(id: string) {
    const found = await users.find(id);
    if (!found) throw new Problem('user_unknown');
    return found;
  }

  /** Recorded, then ended. */
  async function endToken(act: Act, token: KnownToken): Promise<void> {
    if (token.kind === 'access') {
      const { sub, jti } = token.claims;
      await record(act, 'token.denied', 'sid' in token.claims ? sub : null, { jti });
    } else {
      await record(act, 'token.denied', token.userId, { session_id: token.sessionId });
    }
    await introspection.end(token);
  }

  return {
    /** A page of users, the newest first. */
    listUsers: users.page,
    user,
    listEvents: audit.list,
    listClients: clients.list,
    revokeClient: (act: Act, id: string) => clients.revoke(id, actorOf(act), act.context),
    listKeys: signingKeys.list,
    /** @throws {Problem} `signing_key_too_young` */
    rotateKeys: (act: Act) => signingKeys.rotate(keyEvent(act, 'signing_key.rotated')),
    /** @throws {Problem} `signing_key_unknown` */
    revokeKey: (act: Act, kid: string) => signingKeys.revoke(kid, keyEvent(act, 'signing_key.revoked')),

    /** The account, its sessions and what is personal are gone; that it happened is not. @throws {Problem} `user_unknown` */
    async deleteUser(act: Act, id: string): Promise<void> {
      await user(id);
      // If what follows fails, the tokens may be dead and nothing else has happened: the call can be repeated.
      await record(act, 'user.tokens_revoked', id);
      const event = { type: 'user.deleted', actor: actorOf(act), userId: id, context: act.context } as const;
      const erased = await users.erase(id, event, { endSessions: () => revocation.endAll(id), withdrawMails });
      if (!erased) throw new Problem('user_unknown');
    },

    /** @returns from when on tokens are good. @throws {Problem} `user_unknown` */
    async revokeTokens(act: Act, id: string, issuedBefore: Date | undefined): Promise<Date> {
      await user(id);
      await record(act, 'user.tokens_revoked', id, { issued_before: issuedBefore?.toISOString() ?? null });
      return revocation.cutOff(id, issuedBefore);
    },

    /**
     * @param until undefined: until lifted.
     * @param now milliseconds
     * @throws {Problem} `user_unknown`; `invalid_request` for an instant that has passed.
     */
    async suspend(
      act: Act,
      id: string,
      { until, reason }: { until: Date | undefined; reason: string | null },
      now: number,
    ) {
      if (until !== undefined && until.getTime() <= now) throw invalidInput('/until', 'must lie in the future');
      await user(id);
      const end = until === undefined || isUntilLifted(until) ? undefined : until;
      await record(act, 'user.suspended', id, { until: end?.toISOString() ?? null, reason });
      await revocation.suspend(id, end ?? UNTIL_LIFTED, reason);
      return user(id);
    },

    /** @throws {Problem} `user_unknown` */
    async liftSuspension(act: Act, id: string): Promise<void> {
      await user(id);
      await record(act, 'user.unsuspended', id);
      await revocation.liftSuspension(id);
    },

    /** @throws {Problem} `user_unknown` */
    async listSessions(id: string): Promise<SessionRecord[]> {
      await user(id);
      return listSessions(id);
    },

    /** @throws {Problem} `user_unknown`, `session_unknown` */
    async endSession(act: Act, id: string, sessionId: string): Promise<void> {
      await user(id);
      // Any session, even while it is not known which Redis this is: an end must not wait for that.
      const present = await sessions.list(id, 0);
      if (present.some((session) => session.id === sessionId))
        await record(act, 'session.ended', id, { session_id: sessionId });
      // One that has ended already is named again, so that a call that failed here can be completed by another one.
      const ended = await sessions.endOne(id, sessionId);
      if (ended.length === 0) throw new Problem('session_unknown');
      await log.denySessions(id, ended);
    },

    /** Refuses one token. @throws {Problem} `invalid_request` for what is not a token of this issuer. */
    async denyToken(act: Act, token: string): Promise<void> {
      const known = await introspection.identify(token);
      if (!known) throw invalidInput('/token', 'is not a token of this issuer');
      await endToken(act, known);
    },

    /** Refuses one access token by its name. @throws {Problem} `invalid_request` for what is not the `jti` of one. */
    async denyJti(act: Act, jti: string): Promise<void> {
      assertJti(jti);
      await record(act, 'token.denied', readJti(jti)?.userId ?? null, { jti });
      await revocation.denyToken(jti);
    },

    /** RFC 7662, for a client with scope `introspect`. @throws {Problem} `invalid_client`, `insufficient_scope` */
    async introspect(presented: PresentedCredentials, token: string): Promise<Introspected> {
      const { scopes } = await clients.authenticateCached(presented);
      if (!scopes.includes(CLIENT_SCOPES.introspect))
        throw new Problem('insufficient_scope', { detail: `The client lacks the scope ${CLIENT_SCOPES.introspect}` });
      return introspection.introspect(token);
    },

    /**
     * RFC 7009: a client ends the tokens issued to it; with scope `admin`, any. What is no token is ended already.
     * @throws {Problem} `invalid_client`; `unauthorized_client` for a token of somebody else.
     */
    async revokeToken(credentials: ClientCredentials, token: string, context: RequestContext): Promise<void> {
      const { id, scopes } = await clients.authenticate(credentials);
      const known = await introspection.identify(token);
      if (!known) return;
      const own = known.kind === 'access' && known.claims.client_id === id && !('sid' in known.claims);
      if (!own && !scopes.includes(CLIENT_SCOPES.admin))
        throw new Problem('unauthorized_client', { detail: 'The token was not issued to this client' });
      await endToken({ clientId: id, context }, known);
    },
  };
}
