/**
 * Every Redis key of Latchkey: its name, type, life and owner. Nothing else spells a key but packages/verifier/src/redis.ts,
 * which is published and can't depend on this (tests hold the two together).
 *
 * What changes together shares a hash tag (the part in braces) and so a slot of Redis Cluster. The table below is the source of
 * `docs/redis-keys.md`; the test keeps them equal.
 */

/** What one key is for. `ttl` names the environment variables that decide it; `null` lives until it is deleted. */
interface KeyConvention {
  readonly pattern: string;
  readonly type: 'string' | 'hash' | 'set' | 'sorted set' | 'stream' | 'BullMQ';
  readonly ttl: string | null;
  readonly writers: string;
  readonly meaning: string;
}

export const keyConventions = {
  activationKey: {
    pattern: 'latchkey:activation-key:{<SHA-256 of the key, base64url>}',
    type: 'string',
    ttl: 'ACTIVATION_KEY_TTL + ACTIVATION_RENEWAL_TTL, counted from the moment the mail is sent',
    writers: 'mailer-worker',
    meaning:
      'JSON {user_id, attempt, renewal_ms}: what the mailed key stands for. It activates while more than renewal_ms of its life is left; after that it can only be renewed. No usable secret: the key itself is only in the mail.',
  },
  passwordResetKey: {
    pattern: 'latchkey:password-reset-key:{<SHA-256 of the key, base64url>}',
    type: 'string',
    ttl: 'ACTIVATION_KEY_TTL + ACTIVATION_RENEWAL_TTL, counted from the moment the mail is sent',
    writers: 'mailer-worker',
    meaning:
      'JSON {user_id, attempt, renewal_ms}, as of an activation key, for a new password. It cannot be renewed: with renewal_ms of its life left it has expired, and is kept so that it can be told from one that never was.',
  },
  emailChangeKey: {
    pattern: 'latchkey:email-change-key:{<SHA-256 of the key, base64url>}',
    type: 'string',
    ttl: 'ACTIVATION_KEY_TTL + ACTIVATION_RENEWAL_TTL, counted from the moment the mail is sent',
    writers: 'mailer-worker',
    meaning: 'The same for another e-mail address. A key of one purpose is not found under another.',
  },
  session: {
    pattern: 'latchkey:sid:{<user id, base64url>}:<session id>',
    type: 'hash',
    ttl: 'REFRESH_TOKEN_TTL from the last refresh, never past SESSION_MAX_AGE from the first login; OPAQUE_TOKEN_TTL for an opaque token',
    writers: 'auth-api',
    meaning:
      'One device: created, seen (microseconds of Redis TIME), device (its name, user agent and address, deflated). A JWT pair: device_name, seen is when its newest access token was issued, counter that of the refresh token that is good now, rotated when that one was issued, earlier the same of those a caller may still ask for; no hash of a token, a refresh token proves itself by its MAC. An opaque token: its hash, the first 128 bits of SHA-256, is the session id.',
  },
  sessions: {
    pattern: 'latchkey:sessions:{<user id, base64url>}',
    type: 'sorted set',
    ttl: 'that of the longest-lived session in it',
    writers: 'auth-api',
    meaning:
      "The user's session ids, scored by the instant (milliseconds) their hash expires. Changed only together with the hashes.",
  },
  gate: {
    pattern: 'latchkey:gate:{<user id, base64url>}',
    type: 'hash',
    ttl: 'ACCESS_TOKEN_TTL (a minute at least) from the last change, or as long as the door is closed',
    writers: 'auth-api',
    meaning:
      'Only while it matters. cutoff: what was issued at or before it is refused; closed_until, suspended_until: until then nothing is issued; last_issued: when the access token of a session that will be gone before it was issued, so that a cut-off comes after it (microseconds of Redis TIME); generation: another one whenever all sessions ended, or all others, so that a login whose password was checked before is checked again.',
  },
  endedSessions: {
    pattern: 'latchkey:ended-sessions:{<user id, base64url>}',
    type: 'sorted set',
    ttl: 'ACCESS_TOKEN_TTL from the last end, or from what was issued ahead of a clock that has stepped back',
    writers: 'auth-api',
    meaning:
      'Sessions that ended and whose end is still owed to the revocation log, scored by the instant (milliseconds) none of their access tokens can live any more: so that a later call can complete a write that failed, and the line in the log lives as long.',
  },
  epoch: {
    pattern: 'latchkey:{revocations}:epoch',
    type: 'hash',
    ttl: null,
    writers: 'auth-api',
    meaning:
      'Which Redis this is: id, and born (microseconds). Made once; another one begins when Redis was wiped or is an older copy, and then what was issued before its birth is refused everywhere.',
  },
  revocations: {
    pattern: 'latchkey:{revocations}',
    type: 'stream',
    ttl: null,
    writers: 'auth-api',
    meaning:
      'The revocation log: one field an entry, `sid` "until from id user": of this session (of this user) what was issued at `from` or later is refused; `sub` "until cutoff id": of this user what was issued at `cutoff` or before (microseconds); `kid` "until 0 id": whatever this key has signed. `until` is the second in which the last of it has expired, also of what was issued ahead of a clock that has stepped back (by a day at most). Trimmed to that at each write, so reading it from its start gives all that still matters.',
  },
  lineLife: {
    pattern: 'latchkey:{revocations}:line-life',
    type: 'string',
    ttl: 'as many seconds as its value, from when an instance last said so',
    writers: 'auth-api',
    meaning:
      'The seconds a line of the log lives at least: ACCESS_TOKEN_TTL and 60, the longest of all instances that are there or whose tokens may live. While it is being changed, a line that an instance with a shorter one writes lives as long as the tokens of the others.',
  },
  rateLimit: {
    pattern: 'latchkey:rate-limit:<limit>:<HMAC-SHA-256 of the subject, base64url>',
    type: 'string',
    ttl: 'the window of the limit (apps/auth-api/src/rate-limits.ts)',
    writers: 'auth-api',
    meaning:
      'Points used in the running window. The subject (an address, an IP) is named by a MAC under a key derived from MASTER_KEY: a dump lists nobody, and nobody can be looked for in it by guessing.',
  },
  mailQueue: {
    pattern: 'latchkey:{mail}:mail:*',
    type: 'BullMQ',
    ttl: null,
    writers: 'auth-api (adds), mailer-worker (takes)',
    meaning: 'The queue `mail` of BullMQ, prefix `latchkey:{mail}`. A job id is the id of its outbox row.',
  },
  mailLedger: {
    pattern: 'latchkey:{mail}:ledger:<mail id>',
    type: 'string',
    ttl: '14 days (longer than a mail is retried)',
    writers: 'mailer-worker; auth-api (withdrawn)',
    meaning:
      'How far this mail got, so that a job seen twice is not mailed twice: `reserved:<ms>`: it waits for its turn until then; `sending`: its data was begun; `accepted`: a mail server has it; `withdrawn`: its link is dead, nothing is sent; `failed:<sending or nothing>:<why, JSON>`: it failed for good while set aside, which its job is told once.',
  },
  mailPace: {
    pattern: 'latchkey:{mail}:pace:<domain or recipient>:<domain, or SHA-256 of the address, base64url>',
    type: 'string',
    ttl: 'until the bucket is full again',
    writers: 'mailer-worker',
    meaning:
      'Token bucket of the mails to a domain or an address (apps/mailer-worker/src/pacing.ts): the instant (milliseconds) at which it is full again.',
  },
  mailAccepted: {
    pattern: 'latchkey:{mail}:accepted',
    type: 'set',
    ttl: null,
    writers: 'mailer-worker (adds), auth-api (removes once the outbox row is gone)',
    meaning: 'Ids of mails a mail server has accepted and whose outbox row still stands.',
  },
} as const satisfies Record<string, KeyConvention>;

/** Seconds the send ledger remembers a mail after its last note: three times as long as its tries go on (`MAIL_JOB_OPTIONS`: 110 h at most). */
export const MAIL_LEDGER_TTL = 14 * 24 * 60 * 60;

/**
 * A user's id as keys spell it: the 16 bytes of the UUID in base64url. 14 characters fewer in each key of each user are 6 % of the memory
 * sessions take.
 */
export function userTag(userId: string): string {
  // A script takes several keys of one user.
  if (latest.userId !== userId)
    latest = { userId, tag: Buffer.from(userId.replaceAll('-', ''), 'hex').toString('base64url') };
  return latest.tag;
}
let latest = { userId: '', tag: '' };

export type RedisKeys = ReturnType<typeof redisKeys>;

/**
 * The key builders.
 * @param namespace `latchkey` in production; a test adds its own suffix so that suites can share one Redis.
 */
export function redisKeys(namespace = 'latchkey') {
  return {
    activationKey: (sha256: string) => `${namespace}:activation-key:{${sha256}}`,
    passwordResetKey: (sha256: string) => `${namespace}:password-reset-key:{${sha256}}`,
    emailChangeKey: (sha256: string) => `${namespace}:email-change-key:{${sha256}}`,
    session: (userId: string, sessionId: string) => `${namespace}:sid:{${userTag(userId)}}:${sessionId}`,
    /** What {@link session} puts before the session id: for Lua that visits all sessions of one user. */
    sessionPrefix: (userId: string) => `${namespace}:sid:{${userTag(userId)}}:`,
    sessions: (userId: string) => `${namespace}:sessions:{${userTag(userId)}}`,
    gate: (userId: string) => `${namespace}:gate:{${userTag(userId)}}`,
    endedSessions: (userId: string) => `${namespace}:ended-sessions:{${userTag(userId)}}`,
    epoch: `${namespace}:{revocations}:epoch`,
    revocations: `${namespace}:{revocations}`,
    lineLife: `${namespace}:{revocations}:line-life`,
    /** `rate-limiter-flexible` appends `:<subject hash>` itself. */
    rateLimit: (limit: string) => `${namespace}:rate-limit:${limit}`,
    /** BullMQ's `prefix`; its keys are this, a colon, the queue's name and what it needs. */
    mailQueuePrefix: `${namespace}:{mail}`,
    mailLedger: (mailId: string) => `${namespace}:{mail}:ledger:${mailId}`,
    mailPace: (of: 'domain' | 'recipient', subject: string) => `${namespace}:{mail}:pace:${of}:${subject}`,
    mailAccepted: `${namespace}:{mail}:accepted`,
  };
}

/** The conventions as the Markdown table of `docs/redis-keys.md`. */
export function keyTable(): string {
  const rows = Object.values<KeyConvention>(keyConventions).map(
    ({ pattern, type, ttl, writers, meaning }) =>
      `| \`${pattern}\` | ${type} | ${ttl ?? 'none'} | ${writers} | ${meaning} |`,
  );
  return ['| key | type | life | written by | meaning |', '| --- | --- | --- | --- | --- |', ...rows, ''].join('\n');
}
