/** The admin API, called as a client. */
import { Failure } from './failure.ts';

export interface ApiSettings {
  url: string;
  id: string;
  secret: string;
}

export type Api = ReturnType<typeof connectApi>;

/** Milliseconds until an API that does not answer counts as away; it answers within 2 s itself. */
const TIMEOUT = 10_000;

export function connectApi({ url, id, secret }: ApiSettings) {
  let token: Promise<string> | undefined;

  async function send(path: string, init: RequestInit): Promise<Response> {
    try {
      return await fetch(url + path, { ...init, signal: AbortSignal.timeout(TIMEOUT) });
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
      throw new Failure('unavailable', `${url} can't be reached: ${cause}`);
    }
  }

  /** RFC 6749 section 4.4, credentials as section 2.3.1 wants them. */
  async function logIn(): Promise<string> {
    const credentials = [id, secret].map((part) => encodeURIComponent(part)).join(':');
    const response = await send('/oauth/token', {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(credentials).toString('base64')}` },
      body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'admin' }),
    });
    const body = await bodyOf(response);
    if (typeof body.access_token === 'string') return body.access_token;
    throw refusal(response.status, body);
  }

  return {
    /** @returns the answer's body; an empty one for 204. @throws {Failure} */
    async call(method: string, path: string, payload?: object): Promise<Record<string, unknown>> {
      token ??= logIn();
      const response = await send(`/v1/admin${path}`, {
        method,
        headers: {
          authorization: `Bearer ${await token}`,
          ...(payload && { 'content-type': 'application/json' }),
        },
        ...(payload && { body: JSON.stringify(payload) }),
      });
      const body = await bodyOf(response);
      if (!response.ok) throw refusal(response.status, body);
      return body;
    },
  };
}

/** @throws {Failure} for what is no JSON object, or does not come whole and in time. */
async function bodyOf(response: Response): Promise<Record<string, unknown>> {
  const text = await response.text().catch((error: unknown) => {
    const why = error instanceof Error ? error.message : String(error);
    throw new Failure('unavailable', `The answer (status ${response.status}) was cut off: ${why}`);
  });
  if (text === '') return {};
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    throw new Failure(
      isAway(response.status) ? 'unavailable' : 'refused',
      `The answer (status ${response.status}) is not Latchkey's: is LATCHKEY_URL right?`,
    );
  }
}

/** Not the API's refusal, or not its last word: it is down behind a proxy, has too much to do, or is asked too often. */
const isAway = (status: number): boolean => status >= 500 || status === 429;

/** In the words of the API: a problem (RFC 9457) or an OAuth error (RFC 6749 section 5.2). */
function refusal(status: number, body: Record<string, unknown>): Failure {
  const code = body.code ?? body.error ?? `status ${status}`;
  const said = body.detail ?? body.title ?? body.error_description ?? '';
  const errors = Array.isArray(body.errors) ? (body.errors as { pointer: string; detail: string }[]) : [];
  const details = errors.map(({ pointer, detail }) => `\n  ${pointer} ${detail}`).join('');
  return new Failure(isAway(status) ? 'unavailable' : 'refused', `${code}: ${said}${details}`);
}
