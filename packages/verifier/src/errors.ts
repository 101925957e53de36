/** Every way a token can be refused: a closed list, told apart by code. */

const catalogue = {
  /** Not a JWT in the one form this issuer writes, or too long. */
  token_malformed: [401, 'The token is not in the form of an access token'],
  /** Another algorithm than its key's, another `typ` than `at+jwt`, or an extension (`crit`) nobody here knows. */
  token_unsupported: [401, 'The token is of a kind that is not accepted'],
  key_unknown: [401, 'The token is not signed by a key of this issuer'],
  signature_invalid: [401, 'The signature is not right'],
  /** `claim` says which. */
  claim_invalid: [401, 'A claim of the token is not what it must be'],
  token_expired: [401, 'The token has expired'],
  token_revoked: [401, 'The token was revoked'],
  insufficient_scope: [403, 'The token lacks a scope'],
  /** Nothing was heard of the revocations for longer than the bound: a good token can't be told from a revoked one. */
  revocations_unknown: [503, 'The revocations are not known at the moment'],
  keys_unavailable: [503, 'The keys of the issuer are not known at the moment'],
  introspection_unavailable: [503, 'The issuer could not be asked about the token'],
} as const satisfies Record<string, readonly [status: number, message: string]>;

export type VerifyErrorCode = keyof typeof catalogue;

/** Why a token is refused. What may be told to its bearer is `message`; `cause` is for the log. */
export class VerifyError extends Error {
  override readonly name = 'VerifyError';
  readonly code: VerifyErrorCode;
  /** What an HTTP service answers: 401, 403 (RFC 6750 section 3.1), or 503 where trying again can help. */
  readonly status: 401 | 403 | 503;
  /** Of `claim_invalid`: its name. */
  readonly claim: string | undefined;

  constructor(code: VerifyErrorCode, details: { claim?: string; cause?: unknown } = {}) {
    super(catalogue[code][1], { cause: details.cause });
    this.code = code;
    this.status = catalogue[code][0];
    this.claim = details.claim;
  }
}
