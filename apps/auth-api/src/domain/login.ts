/** From password to session, from refresh token to the next pair. */
import { randomBytes } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import type { Epoch, RevocationCopy } from '@latchkey/verifier/revocation-copy';
import type { Env } from '../env.ts';
import { Problem } from '../problems.ts';
import type { Device } from '../store/devices.ts';
import { knownEpoch, type RevocationLog } from '../store/revocation-log.ts';
import type { Microseconds, RefreshOutcome, SessionStore, TokenFormat } from '../store/sessions.ts';
import type { LoginCandidate, UserStore } from '../store/users.ts';
import { accessTokenClaims } from './access-token.ts';
import type { Audit } from './audit.ts';
import { isUntilLifted } from './instants.ts';
import type { Keyring } from './keyring.ts';
import { createOpaqueToken } from './opaque-token.ts';
import { type Passwords, REFUSAL_FLOOR } from './passwords.ts';
import { decodeRefreshToken, encodeRefreshToken, type RefreshTokenContent } from './refresh-token.ts';
import type { RequestContext } from './request-context.ts';
import type { SigningKeys } from './signing-keys.ts';

export interface IssuedTokens {
  accessToken: string;
  /** Seconds; null: never. */
  expiresIn: number | null;
  /** A JWT pair has one. */
  refresh?: { token: string; expiresIn: number };
  session: { id: string; deviceName: string | null; createdAt: Date };
}

export type Login = ReturnType<typeof createLogin>;

export interface LoginOptions {
  users: UserStore;
  sessions: SessionStore;
  log: RevocationLog;
  passwords: Passwords;
  signingKeys: SigningKeys;
  keyring: Keyring;
  audit: Audit;
  env: Pick<Env, 'PUBLIC_URL' | 'TOKEN_AUDIENCE' | 'ACCESS_TOKEN_TTL' | 'REFRESH_TOKEN_TTL' | 'SESSION_MAX_AGE'>;
  copy: RevocationCopy;
}

/** Somebody whose password was right, and what the session that is opened for it depends on. */
interface Authenticated {
  userId: string;
  /** As it is stored now. */
  passwordHash: string;
  epoch: Epoch;
  /** Of the gate, within this epoch. */
  generation: string;
}

type Refusal = Exclude<RefreshOutcome, { status: 'ok' }>;

/** A user id nobody has: an unknown address costs the same look-ups. */
const NOBODY = '00000000-0000-0000-0000-000000000000';
/** In place of a hash that was replaced meanwhile. No stored one equals it: the session ends, and the login begins anew. */
const REPLACED_MEANWHILE = '';
/** Tries of a login: it begins anew when everything was revoked while its password was checked. */
const ATTEMPTS = 5;

export function createLogin(options: LoginOptions) {
  const { users, sessions, log, passwords, signingKeys, keyring, audit, env, copy } = options;
  const issuedBy = { issuer: env.PUBLIC_URL, audience: env.TOKEN_AUDIENCE };

  interface Issue {
    userId: string;
    sessionId: string;
    deviceName: string | null;
    createdAt: Microseconds;
    /** Of the access token. */
    issuedAt: Microseconds;
    refresh: { counter: number; issuedAt: Microseconds; expiresInMs: number };
  }

  async function issuePair({
    userId,
    sessionId,
    deviceName,
    createdAt,
    issuedAt,
    refresh,
  }: Issue): Promise<IssuedTokens> {
    const { counter, issuedAt: refreshIssuedAt, expiresInMs } = refresh;
    const sessionLife = Math.max(0, Math.floor(expiresInMs / 1000));
    // No access token outlives its session: ending all the others must find each whose token could still be used.
    const ttl = Math.min(env.ACCESS_TOKEN_TTL, sessionLife);
    const claims = accessTokenClaims({ userId, sessionId, createdAt, issuedAt }, { ...issuedBy, ttl });
    return {
      accessToken: await signingKeys.sign(claims),
      expiresIn: ttl,
      refresh: {
        token: encodeRefreshToken(keyring, { userId, sessionId, counter, createdAt, issuedAt: refreshIssuedAt }),
        expiresIn: sessionLife,
      },
      session: { id: sessionId, deviceName, createdAt: new Date(createdAt / 1000) },
    };
  }

  /** What a refresh that is refused leaves to do: the record of a reuse, and the line the log may still be owed. */
  async function settle({ status }: Refusal, token: RefreshTokenContent, context: RequestContext): Promise<void> {
    // First: should the log fail, the next call only hears that the session has ended. (Whoever presented it is not known to be the user.)
    if (status === 'reused')
      audit.note({
        type: 'token.refresh_reused',
        actor: { type: 'user', id: null },
        userId: token.userId,
        context,
        details: { session_id: token.sessionId },
      });
    // A cut-off has its own line, and for a session that left nothing behind none is owed.
    if (status !== 'cut' && status !== 'gone') await log.denySessions(token.userId, [token.sessionId]);
  }

  /** Why a refresh is refused, as its caller is told. */
  function problemOf(refusal: Refusal, token: RefreshTokenContent): Problem {
    switch (refusal.status) {
      case 'expired':
        return new Problem('session_expired');
      case 'cut':
        return new Problem('session_revoked');
      case 'reused':
        return new Problem('refresh_token_reused');
      case 'ended':
      case 'gone':
        return new Problem(whyGone(token, refusal.now));
    }
  }

  /** The session left nothing behind; its token knows how long it could have lived at most. */
  function whyGone({ issuedAt, createdAt }: RefreshTokenContent, now: Microseconds) {
    const idle = issuedAt + env.REFRESH_TOKEN_TTL * 1_000_000;
    const oldest = createdAt + env.SESSION_MAX_AGE * 1_000_000;
    return now >= Math.min(idle, oldest) ? 'session_expired' : 'session_revoked';
  }

  /** Stores a password as it should be stored. @returns the hash it has now, or {@link REPLACED_MEANWHILE}. */
  async function upgrade({ id, passwordHash }: LoginCandidate, rehashed: string | undefined): Promise<string> {
    if (rehashed === undefined) return passwordHash;
    return (await users.rehash(id, passwordHash, rehashed)) ? rehashed : REPLACED_MEANWHILE;
  }

  /** Nobody and a wrong password alike, in time too: while there are hashes that take longer to check than ours, every refusal takes as long. */
  async function invalidCredentials(started: number): Promise<Problem> {
    if (await users.hasForeignHashes()) await setTimeout(REFUSAL_FLOOR - (performance.now() - started));
    return new Problem('invalid_credentials');
  }

  /** Who it is, if password and door allow; and what must still hold when the session is opened. */
  async function authenticate(email: string, password: string, context: RequestContext): Promise<Authenticated> {
    const started = performance.now();
    const user = await users.loginCandidate(email);
    // Before the password is checked: what ends sessions after this is noticed. (What changed before it, {@link stillGood} notices.)
    const epoch = knownEpoch(copy);
    const generation = await sessions.generation(user?.id ?? NOBODY);
    const { matches, rehashed } = await passwords.verify(password, user?.passwordHash);
    if (user && !matches)
      audit.note({ type: 'login.failed', actor: { type: 'user', id: null }, userId: user.id, context });
    if (!user || !matches) throw await invalidCredentials(started);
    if (user.closedUntil !== null) throw closed(user.closedUntil);
    if (user.status === 'pending') throw new Problem('account_not_activated');
    const passwordHash = await upgrade(user, rehashed);
    return { userId: user.id, passwordHash, epoch, generation };
  }

  /**
   * Whether the password was the account's, and its door open, once the session was there; if not, or not known, the session ends and
   * nobody gets it.
   */
  async function stillGood(userId: string, sessionId: string, passwordHash: string): Promise<boolean> {
    let settled: string | undefined;
    try {
      settled = await users.settledPasswordHash(userId);
    } finally {
      if (settled !== passwordHash) await sessions.endOne(userId, sessionId);
    }
    return settled === passwordHash;
  }

  /** @returns undefined when everything was revoked since the generation was read. */
  async function open({ userId, epoch, generation }: Authenticated, format: TokenFormat, device: Device) {
    // What an older copy of Redis issued would be refused as soon as it is known to be one; a generation of another Redis says nothing.
    const { id, born } = knownEpoch(copy);
    if (id !== epoch.id) return undefined;
    const opaque = format === 'opaque' ? createOpaqueToken(userId) : undefined;
    const sessionId = opaque?.sessionId ?? randomBytes(16).toString('base64url');
    try {
      const created = await sessions.create(userId, sessionId, format, device, { generation, notBefore: born });
      if (created.status === 'closed') throw closed(new Date(created.until / 1000));
      if (created.status === 'changed') return undefined;
      await log.denySessions(userId, created.ended);
      const session = { userId, sessionId, deviceName: device.deviceName, createdAt: created.createdAt };
      const tokens = await issueFirst(session, opaque?.token, created.expiresInMs);
      return { ...tokens, firstSession: created.first };
    } catch (error) {
      // Whether it was opened or not, nobody will ever hold it.
      if (!(error instanceof Problem)) await sessions.endOne(userId, sessionId).catch(() => undefined);
      throw error;
    }
  }

  /** @param expiresInMs null: never. */
  async function issueFirst(
    session: Pick<Issue, 'userId' | 'sessionId' | 'deviceName' | 'createdAt'>,
    opaqueToken: string | undefined,
    expiresInMs: number | null,
  ): Promise<IssuedTokens> {
    const { sessionId, deviceName, createdAt } = session;
    if (opaqueToken === undefined) {
      const refresh = { counter: 0, issuedAt: createdAt, expiresInMs: expiresInMs ?? 0 };
      return issuePair({ ...session, issuedAt: createdAt, refresh });
    }
    return {
      accessToken: opaqueToken,
      expiresIn: expiresInMs === null ? null : Math.floor(expiresInMs / 1000),
      session: { id: sessionId, deviceName, createdAt: new Date(createdAt / 1000) },
    };
  }

  return {
    /**
     * @throws {Problem} `invalid_credentials` alike for an unknown address and a wrong password; with the right one
     *   `account_not_activated`, `account_suspended`.
     */
    async login(
      email: string,
      password: string,
      format: TokenFormat,
      device: Device,
      context: RequestContext,
    ): Promise<IssuedTokens & { firstSession: boolean }> {
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
        const authenticated = await authenticate(email, password, context);
        const { userId, passwordHash } = authenticated;
        // Before the session exists: without a key there would be a session nobody holds.
        log.assertAnnounced();
        await signingKeys.ensure();
        const tokens = await open(authenticated, format, device);
        if (tokens && (await stillGood(userId, tokens.session.id, passwordHash))) {
          audit.noteOwn('session.created', userId, context, { session_id: tokens.session.id, token_format: format });
          return tokens;
        }
      }
      throw new Problem('overloaded', { detail: 'The account is being changed at this moment', retryAfter: 1 });
    },

    /**
     * The successor of a refresh token; the same one for every caller within the grace.
     * @throws {Problem} `invalid_refresh_token`, `refresh_token_reused`, `session_expired`, `session_revoked`.
     */
    async refresh(token: string, context: RequestContext): Promise<IssuedTokens> {
      const presented = decodeRefreshToken(keyring, token);
      if (!presented) throw new Problem('invalid_refresh_token');
      log.assertAnnounced();
      await signingKeys.ensure();
      const { userId, sessionId, createdAt, issuedAt } = presented;
      const { born } = knownEpoch(copy);
      // A session that ended may stand on a shard that failed over; the log, read before the store is asked, still names it (ADR 20).
      const ended = copy.denies({ userId, sessionId, issuedAt });
      // A session of a Redis that is lost may stand in a copy of it that was restored.
      const outcome =
        issuedAt < born
          ? ({ status: 'gone', now: await sessions.clock() } as const)
          : await sessions.refresh(userId, sessionId, presented);
      if (outcome.status !== 'ok') {
        await settle(outcome, presented, context);
        throw problemOf(outcome, presented);
      }
      if (ended) throw new Problem('session_revoked');
      return issuePair({
        userId,
        sessionId,
        deviceName: outcome.deviceName,
        createdAt,
        issuedAt: outcome.now,
        refresh: { counter: outcome.counter, issuedAt: outcome.rotatedAt, expiresInMs: outcome.refreshExpiresInMs },
      });
    },
  };
}

/** Until lifted is said without an instant. */
const closed = (until: Date): Problem => new Problem('account_suspended', isUntilLifted(until) ? {} : { until });
