/** auth-api, as an operator at the board needs it: proves who they are, and does what they ask for. */
import { hash } from 'node:crypto';

/** Milliseconds: auth-api answers within 2 s itself. */
const TIMEOUT = 3_000;

/** auth-api did not answer, or said it can't now. */
class ApiAway extends Error {
  override readonly name = 'ApiAway';
  readonly statusCode = 503;
}

/** @param url the address of auth-api. */
export function createOperatorApi(url: string) {
  /** Access tokens by the SHA-256 of the credentials they were got with: the secret itself is kept by nobody. */
  const tokens = new Map<string, string>();
  const nameOf = (id: string, secret: string) => hash('sha256', `${id}:${secret}`, 'base64url');

  /** @throws {ApiAway} */
  async function ask(path: string, init: RequestInit): Promise<Response> {
    const response = await fetch(url + path, { ...init, signal: AbortSignal.timeout(TIMEOUT) }).catch(() => undefined);
    if (response === undefined || response.status >= 500 || response.status === 429)
      throw new ApiAway(`auth-api ${response === undefined ? "can't be reached" : `answered ${response.status}`}`);
    return response;
  }

  return {
    /**
     * The token these credentials were given before, if auth-api still takes it: it is asked each time, so that a client that is revoked
     * sees nothing any more.
     * @throws {ApiAway}
     */
    async remembered(id: string, secret: string): Promise<string | undefined> {
      const name = nameOf(id, secret);
      const token = tokens.get(name);
      if (token === undefined) return undefined;
      const { ok } = await ask('/v1/verify?scope=admin', { headers: { authorization: `Bearer ${token}` } });
      if (ok) return token;
      tokens.delete(name);
      return undefined;
    },

    /**
     * RFC 6749 section 4.4, credentials as section 2.3.1 wants them.
     * @returns a token with scope admin; undefined when these are not the credentials of a client that has it. @throws {ApiAway}
     */
    async logIn(id: string, secret: string): Promise<string | undefined> {
      const credentials = [id, secret].map((part) => encodeURIComponent(part)).join(':');
      const response = await ask('/oauth/token', {
        method: 'POST',
        headers: { authorization: `Basic ${Buffer.from(credentials).toString('base64')}` },
        body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'admin' }),
      });
      if (!response.ok) return undefined;
      const { access_token: token } = (await response.json()) as { access_token: string };
      tokens.set(nameOf(id, secret), token);
      return token;
    },

    /** Retries or discards a failed mail; recorded there as this operator's act. @returns false for a mail that is not there. @throws {ApiAway} */
    async act(token: string, act: 'retry' | 'discard', mailId: string, userAgent: string): Promise<boolean> {
      const path = `/v1/admin/failed-mails/${encodeURIComponent(mailId)}`;
      const { ok } = await ask(act === 'retry' ? `${path}/retry` : path, {
        method: act === 'retry' ? 'POST' : 'DELETE',
        headers: { authorization: `Bearer ${token}`, 'user-agent': userAgent },
      });
      return ok;
    },
  };
}
