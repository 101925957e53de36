/** The scopes this service knows; a client may hold others, which mean something elsewhere. */

/** Of a user who logged in with a password. */
export const USER_SCOPE = 'account';

export const CLIENT_SCOPES = { admin: 'admin', introspect: 'introspect', feed: 'revocations:read' } as const;
