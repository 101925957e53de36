/** Asking the issuer itself about a token (RFC 7662): what is left when the revocations are not known. */
import { basic, type ClientCredentials } from './client-token.ts';
import { VerifyError } from './errors.ts';

/** Milliseconds an answer may take. */
const PATIENCE = 2000;

export interface IntrospectionOptions {
  /** `<issuer>/oauth/introspect`. */
  url: string | URL;
  /** A client with scope `introspect`. */
  client: ClientCredentials;
}

/** @returns what asks whether a token is active; it throws a VerifyError `introspection_unavailable` when it is not told. */
export function createIntrospector({ url, client }: IntrospectionOptions) {
  return async (token: string): Promise<boolean> => {
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: { authorization: basic(client) },
        body: new URLSearchParams({ token }),
        redirect: 'error',
        signal: AbortSignal.timeout(PATIENCE),
      });
      if (!response.ok) throw new Error(`${url} answers ${response.status}`);
      const { active } = (await response.json()) as { active: unknown };
      return active === true;
    } catch (cause) {
      throw new VerifyError('introspection_unavailable', { cause });
    }
  };
}
