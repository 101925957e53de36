/** From password to session, from refresh token to the next pair. */
import { randomBytes } from 'node:crypto';
import type { Env } from '../env.ts';
import { Problem } from '../problems.ts';
import type { RevocationLog } from '../store/revocation-log.ts';
import type { Device, Microseconds, SessionStore } from '../store/sessions.ts';
import type { UserStore } from '../store/users.ts';
import { accessTokenClaims } from './access-token.ts';
import type { Audit } from './audit.ts';
import type { Keyring } from './keyring.ts';
import { createOpaqueToken } from './opaque-token.ts';
import type { Passwords } from './passwords.ts';
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
  revocations: RevocationLog;
  passwords: Passwords;
  signingKeys: SigningKeys;
  keyring: Keyring;
  audit: Audit;
  env: Pick<Env, 'PUBLIC_URL' | 'TOKEN_AUDIENCE' | 'ACCESS_TOKEN_TTL' | 'REFRESH_TOKEN_TTL' | 'SESSION_MAX_AGE'>;
  /** Instant before which nothing counts any more: the birth of the epoch. */
  epochBorn: () => Microseconds;
}

/** A user id nobody has: an unknown address costs the same look-ups. */
const NOBODY = '00000000-0000-0000-0000-000000000000';
/** Times a login is begun anew because everything was revoked while its password was checked. */
const ATTEMPTS = 5;

export function createLogin(options: LoginOptions) {
  const { users, sessions, revocations, passwords, signingKeys, keyring, audit, env, epochBorn } = options;
  const lifetimes = { issuer: env.PUBLIC_URL, audience: env.TOKEN_AUDIENCE, ttl: env.ACCESS_TOKEN_TTL };

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
    return {
      accessToken: await signingKeys.sign(accessTokenClaims({ userId, sessionId, createdAt, issuedAt }, lifetimes)),
      expiresIn: env.ACCESS_TOKEN_TTL,
      refresh: {
        token: encodeRefreshToken(keyring, { userId, sessionId, counter, createdAt, issuedAt: refreshIssuedAt }),
        expiresIn: Math.max(0, Math.floor(expiresInMs / 1000)),
      },
      session: { id: sessionId, deviceName, createdAt: new Date(createdAt / 1000) },
    };
  }

  async function refused(
    why: 'reused' | 'expired' | 'gone' | 'cut',
    token: RefreshTokenContent,
    now: number,
    context: RequestContext,
  ): Promise<Problem> {
    if (why === 'expired') return new Problem('session_expired');
    if (why === 'cut') return new Problem('session_revoked');
    if (why === 'reused') {
      await revocations.denySessions([token.sessionId], now);
      // Whoever presented it is not known to be the user.
      audit.note({
        type: 'token.refresh_reused',
        actor: { type: 'user', id: null },
        userId: token.userId,
        context,
        details: { session_id: token.sessionId },
      });
      return new Problem('refresh_token_reused');
    }
    // The session left nothing behind; its token knows how long it could have lived at most.
    const idle = token.issuedAt / 1000 + env.REFRESH_TOKEN_TTL * 1000;
    const oldest = token.createdAt / 1000 + env.SESSION_MAX_AGE * 1000;
    return new Problem(now >= Math.min(idle, oldest) ? 'session_expired' : 'session_revoked');
  }

  /** Who it is, if password and door allow; and the generation that must still hold when the session is opened. */
  async function authenticate(
    email: string,
    password: string,
    context: RequestContext,
  ): Promise<{ userId: string; generation: string }> {
    // The generation is read before what the password is compared with: whatever changes after this is noticed.
    const known = await users.loginCandidate(email);
    const generation = await sessions.generation(known?.id ?? NOBODY);
    const user = await users.loginCandidate(email);
    const matches = await passwords.verify(password, user?.passwordHash);
    if (user && !matches)
      audit.note({ type: 'login.failed', actor: { type: 'user', id: null }, userId: user.id, context });
    if (!user || !matches) throw new Problem('invalid_credentials');
    if (user.closedUntil !== null) throw closed(user.closedUntil);
    if (user.status === 'pending') throw new Problem('account_not_activated');
    return { userId: user.id, generation: user.id === known?.id ? generation : '' };
  }

  /** @returns undefined when everything was revoked since the generation was read. */
  async function open(userId: string, format: 'jwt' | 'opaque', device: Device, generation: string, now: number) {
    const sessionId = randomBytes(16).toString('base64url');
    const opaque = createOpaqueToken(userId, sessionId);
    const owned = format === 'jwt' ? { format } : { format, tokenHash: opaque.tokenHash };
    const created = await sessions.create(userId, sessionId, owned, device, generation);
    if (created.status === 'closed') throw closed(new Date(created.until / 1000));
    if (created.status === 'changed') return undefined;
    const { createdAt, expiresIn, first, evicted } = created;
    if (evicted.length > 0) await revocations.denySessions(evicted, now);
    const { deviceName } = device;
    if (format === 'jwt') {
      const refresh = { counter: 0, issuedAt: createdAt, expiresInMs: expiresIn ?? 0 };
      const pair = await issuePair({ userId, sessionId, deviceName, createdAt, issuedAt: createdAt, refresh });
      return { ...pair, firstSession: first };
    }
    return {
      accessToken: opaque.token,
      expiresIn: expiresIn === null ? null : Math.floor(expiresIn / 1000),
      session: { id: sessionId, deviceName, createdAt: new Date(createdAt / 1000) },
      firstSession: first,
    };
  }

  return {
    /**
     * @param now milliseconds
     * @throws {Problem} `invalid_credentials` alike for an unknown address and a wrong password; with the right one
     *   `account_not_activated`, `account_suspended`.
     */
    async login(
      email: string,
      password: string,
      format: 'jwt' | 'opaque',
      device: Device,
      now: number,
      context: RequestContext,
    ): Promise<IssuedTokens & { firstSession: boolean }> {
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
        const { userId, generation } = await authenticate(email, password, context);
        // Before the session exists: without a key there would be a session nobody holds.
        await signingKeys.ensure();
        const tokens = await open(userId, format, device, generation, now);
        if (tokens) {
          audit.noteOwn('session.created', userId, context, { session_id: tokens.session.id, token_format: format });
          return tokens;
        }
      }
      throw new Problem('overloaded', { detail: 'The account is being changed at this moment', retryAfter: 1 });
    },

    /**
     * The successor of a refresh token; the same one for every caller within the grace.
     * @param now milliseconds, to tell a session that idled away from one that was ended
     * @throws {Problem} `invalid_refresh_token`, `refresh_token_reused`, `session_expired`, `session_revoked`.
     */
    async refresh(token: string, now: number, context: RequestContext): Promise<IssuedTokens> {
      const presented = decodeRefreshToken(keyring, token);
      if (!presented) throw new Problem('invalid_refresh_token');
      await signingKeys.ensure();
      const { userId, sessionId, createdAt } = presented;
      // A session of a Redis that is lost may stand in a copy of it that was restored.
      const outcome =
        presented.issuedAt < epochBorn()
          ? ({ status: 'gone' } as const)
          : await sessions.refresh(userId, sessionId, presented);
      if (outcome.status !== 'ok') throw await refused(outcome.status, presented, now, context);
      return issuePair({
        userId,
        sessionId,
        deviceName: outcome.deviceName,
        createdAt,
        issuedAt: outcome.now,
        refresh: { counter: outcome.counter, issuedAt: outcome.rotatedAt, expiresInMs: outcome.refreshExpiresIn },
      });
    },
  };
}

/** Until the end of time is said without an instant. */
const closed = (until: Date): Problem => new Problem('account_suspended', until < FAR_AWAY ? { until } : {});
const FAR_AWAY = new Date('2200-01-01T00:00:00Z');
