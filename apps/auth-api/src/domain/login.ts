/** From password to session, from refresh token to the next pair. */
import { randomBytes } from 'node:crypto';
import type { Env } from '../env.ts';
import { Problem } from '../problems.ts';
import type { RevocationLog } from '../store/revocation-log.ts';
import type { Device, Microseconds, SessionStore } from '../store/sessions.ts';
import type { UserStore } from '../store/users.ts';
import { accessTokenClaims } from './access-token.ts';
import type { Keyring } from './keyring.ts';
import type { Passwords } from './passwords.ts';
import { decodeRefreshToken, encodeRefreshToken, type RefreshTokenContent } from './refresh-token.ts';
import type { SigningKeys } from './signing-keys.ts';

export interface TokenPair {
  accessToken: string;
  /** Seconds. */
  expiresIn: number;
  refreshToken: string;
  /** Seconds. */
  refreshExpiresIn: number;
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
  env: Pick<Env, 'PUBLIC_URL' | 'TOKEN_AUDIENCE' | 'ACCESS_TOKEN_TTL' | 'REFRESH_TOKEN_TTL' | 'SESSION_MAX_AGE'>;
}

export function createLogin({ users, sessions, revocations, passwords, signingKeys, keyring, env }: LoginOptions) {
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

  async function issue({ userId, sessionId, deviceName, createdAt, issuedAt, refresh }: Issue): Promise<TokenPair> {
    const { counter, issuedAt: refreshIssuedAt, expiresInMs } = refresh;
    return {
      accessToken: await signingKeys.sign(accessTokenClaims({ userId, sessionId, createdAt, issuedAt }, lifetimes)),
      expiresIn: env.ACCESS_TOKEN_TTL,
      refreshToken: encodeRefreshToken(keyring, { userId, sessionId, counter, createdAt, issuedAt: refreshIssuedAt }),
      refreshExpiresIn: Math.max(0, Math.floor(expiresInMs / 1000)),
      session: { id: sessionId, deviceName, createdAt: new Date(createdAt / 1000) },
    };
  }

  async function refused(
    why: 'reused' | 'ended' | 'expired' | 'gone',
    token: RefreshTokenContent,
    now: number,
  ): Promise<Problem> {
    if (why === 'expired') return new Problem('session_expired');
    if (why === 'reused' || why === 'ended') {
      await revocations.denySessions([token.sessionId]);
      return new Problem(why === 'reused' ? 'refresh_token_reused' : 'session_revoked');
    }
    // The session left nothing behind; its token knows how long it could have lived at most.
    const idle = token.issuedAt / 1000 + env.REFRESH_TOKEN_TTL * 1000;
    const oldest = token.createdAt / 1000 + env.SESSION_MAX_AGE * 1000;
    return new Problem(now >= Math.min(idle, oldest) ? 'session_expired' : 'session_revoked');
  }

  return {
    /**
     * @throws {Problem} `invalid_credentials` alike for an unknown address and a wrong password; with the right one
     *   `account_not_activated`, `account_suspended`.
     */
    async login(email: string, password: string, device: Device): Promise<TokenPair & { firstSession: boolean }> {
      const user = await users.loginCandidate(email);
      const matches = await passwords.verify(password, user?.passwordHash);
      if (!user || !matches) throw new Problem('invalid_credentials');
      if (user.status === 'pending') throw new Problem('account_not_activated');
      if (user.status === 'suspended') throw new Problem('account_suspended');
      // Before the session exists: without a key there would be a session nobody holds.
      await signingKeys.ensure();
      const sessionId = randomBytes(16).toString('base64url');
      const { createdAt, refreshExpiresIn, first, ended } = await sessions.create(user.id, sessionId, device);
      if (ended.length > 0) await revocations.denySessions(ended);
      const pair = await issue({
        userId: user.id,
        sessionId,
        deviceName: device.deviceName,
        createdAt,
        issuedAt: createdAt,
        refresh: { counter: 0, issuedAt: createdAt, expiresInMs: refreshExpiresIn },
      });
      return { ...pair, firstSession: first };
    },

    /**
     * The successor of a refresh token; the same one for every caller within the grace.
     * @param now milliseconds, to tell a session that idled away from one that was ended
     * @throws {Problem} `invalid_refresh_token`, `refresh_token_reused`, `session_expired`, `session_revoked`.
     */
    async refresh(token: string, now: number): Promise<TokenPair> {
      const presented = decodeRefreshToken(keyring, token);
      if (!presented) throw new Problem('invalid_refresh_token');
      await signingKeys.ensure();
      const { userId, sessionId, counter, createdAt } = presented;
      const outcome = await sessions.refresh(userId, sessionId, counter, createdAt);
      if (outcome.status !== 'ok') throw await refused(outcome.status, presented, now);
      return issue({
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
