/** Who this verifier is to the issuer: a client with HTTP Basic, and with the tokens it gets by that. */

/** RFC 6749 section 2.3.1. */
export interface ClientCredentials {
  id: string;
  secret: string;
}

/** RFC 6749 section 2.3.1: id and secret are form-encoded, then joined as RFC 7617 wants it. */
export function basic({ id, secret }: ClientCredentials): string {
  const encode = (part: string) => new URLSearchParams([['', part]]).toString().slice(1);
  return `Basic ${Buffer.from(`${encode(id)}:${encode(secret)}`).toString('base64')}`;
}

/** Milliseconds before its end from which a token is not used for anything new. */
const SPARE = 5000;

export interface ClientTokenOptions {
  /** The issuer's token endpoint. */
  url: string | URL;
  client: ClientCredentials;
  scope: string;
}

/** Tokens of RFC 6749 section 4.4, each used until it is about to expire or is said to be refused. */
export function createClientToken({ url, client, scope }: ClientTokenOptions) {
  let held: { token: string; until: number } | undefined;
  return {
    /** @throws Error when the issuer gives none; what `signal` is aborted for. */
    async get(signal: AbortSignal): Promise<string> {
      if (held && performance.now() < held.until) return held.token;
      const response = await fetch(url, {
        method: 'POST',
        headers: { authorization: basic(client) },
        body: new URLSearchParams({ grant_type: 'client_credentials', scope }),
        redirect: 'error',
        signal,
      });
      if (!response.ok) throw new Error(`${url} answers ${response.status}`);
      const { access_token: token, expires_in: seconds } = (await response.json()) as {
        access_token: string;
        expires_in: number;
      };
      held = { token, until: performance.now() + seconds * 1000 - SPARE };
      return token;
    },
    /** To be called when the issuer did not accept the token: another one is asked for next time. */
    refused(): void {
      held = undefined;
    },
  };
}
