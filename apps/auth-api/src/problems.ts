/**
 * Every way a request can be refused: one code, its status and title, answered as RFC 9457 `application/problem+json`. Nothing else in
 * the app knows a status of an error.
 */

const catalogue = {
  invalid_request: [400, 'The request is not valid'],
  password_too_weak: [400, 'The password is too easy to guess'],
  invalid_scope: [400, 'The scope is not valid'],
  unauthorized_client: [400, 'The client may not do this'],
  unsupported_grant_type: [400, 'The grant type is not supported'],
  invalid_client: [401, 'The client is not known, or its secret is not this'],
  invalid_credentials: [401, 'The e-mail address or the password is wrong'],
  missing_token: [401, 'An access token is needed'],
  invalid_token: [401, 'The access token is not valid'],
  invalid_refresh_token: [401, 'The refresh token is not valid'],
  refresh_token_reused: [401, 'The refresh token was used before; its session has ended'],
  session_expired: [401, 'The session has expired'],
  session_revoked: [401, 'The session has ended'],
  insufficient_scope: [403, 'The access token lacks a scope'],
  account_not_activated: [403, 'The account is not activated'],
  account_suspended: [403, 'The account is suspended'],
  not_found: [404, 'There is nothing here'],
  activation_key_unknown: [404, 'The activation link is not known or was replaced by a newer one'],
  password_reset_key_unknown: [404, 'The password reset link is not known or no longer counts'],
  email_change_key_unknown: [404, 'The link to another address is not known or no longer counts'],
  session_unknown: [404, 'The session is not known'],
  user_unknown: [404, 'The user is not known'],
  client_unknown: [404, 'The client is not known'],
  signing_key_unknown: [404, 'The signing key is not known'],
  mail_unknown: [404, 'There is no such mail to retry or discard'],
  method_not_allowed: [405, 'The method is not allowed here'],
  request_timeout: [408, 'The request took too long to arrive'],
  signing_key_too_young: [409, 'The next signing key is not known to every verifier yet'],
  activation_key_expired: [410, 'The activation link has expired'],
  activation_key_used: [410, 'The activation link was used'],
  password_reset_key_expired: [410, 'The password reset link has expired'],
  password_reset_key_used: [410, 'The password reset link was used'],
  email_change_key_expired: [410, 'The link to another address has expired'],
  email_change_key_used: [410, 'The link to another address was used'],
  body_too_large: [413, 'The body is too large'],
  uri_too_long: [414, 'The address is too long'],
  unsupported_media_type: [415, 'The content type is not supported'],
  rate_limited: [429, 'Too many requests'],
  headers_too_large: [431, 'The headers are too large'],
  internal_error: [500, 'Something went wrong here'],
  overloaded: [503, 'Too much to do at the moment'],
  dependency_unavailable: [503, 'A part this service needs is not available'],
} as const satisfies Record<string, readonly [status: number, title: string]>;

export type ProblemCode = keyof typeof catalogue;

/** What is expected at a place of the input: an RFC 6901 pointer into the body, or `/query/…`, `/params/…`, `/headers/…`, `/path`. */
export interface InputError {
  pointer: string;
  detail: string;
}

interface ProblemDetails {
  detail?: string;
  errors?: InputError[];
  /** Seconds for `Retry-After`; 429 and 503 always carry one. */
  retryAfter?: number;
  /** The scope that is missing, for `WWW-Authenticate` (RFC 6750 section 3). */
  scope?: string;
  /** When a suspension ends; left out when only an operator ends it. */
  until?: Date;
  cause?: unknown;
}

/** The one error a handler throws on purpose. `message` and `cause` go to the log, the rest to the caller. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ProblemCode;
  readonly status: number;
  readonly title: string;
  readonly details: ProblemDetails;

  constructor(code: ProblemCode, details: ProblemDetails = {}) {
    super(details.detail ?? catalogue[code][1], { cause: details.cause });
    this.code = code;
    [this.status, this.title] = catalogue[code];
    this.details = details;
  }
}

/** `invalid_request` of one field. @param pointer see {@link InputError}. */
export const invalidInput = (pointer: string, detail: string): Problem =>
  new Problem('invalid_request', { errors: [{ pointer, detail }] });

/** `WWW-Authenticate` of a 401 or 403: RFC 6750 section 3.1 knows three error codes, and none when no token was sent. */
export function challenge(problem: Problem): string | undefined {
  if (problem.status !== 401 && problem.code !== 'insufficient_scope') return undefined;
  if (problem.code === 'missing_token' || problem.code === 'invalid_credentials') return 'Bearer realm="latchkey"';
  const error = problem.code === 'insufficient_scope' ? 'insufficient_scope' : 'invalid_token';
  const scope = problem.details.scope === undefined ? '' : `, scope="${problem.details.scope}"`;
  return `Bearer realm="latchkey", error="${error}", error_description="${problem.title}"${scope}`;
}

/** The body of the answer (RFC 9457 section 3). */
export function problemBody(problem: Problem, requestId: string) {
  const { status, title, code, details } = problem;
  return {
    type: `urn:latchkey:problem:${code}`,
    title,
    status,
    code,
    ...(details.detail !== undefined && { detail: details.detail }),
    ...(details.errors !== undefined && { errors: details.errors }),
    ...(details.until !== undefined && { until: details.until.toISOString() }),
    request_id: requestId,
  };
}

/** The codes an operation can answer with, grouped by status: what its OpenAPI document lists. */
export function statusesOf(codes: readonly ProblemCode[]): Map<number, ProblemCode[]> {
  return Map.groupBy(codes, (code) => catalogue[code][0]);
}
