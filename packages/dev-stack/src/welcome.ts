import { DEV_CLIENT_SCOPES } from './dev-client.ts';

export type Addresses = {
  readonly api: string;
  /** undefined: mails go to a server of the person's own. */
  readonly inbox: string | undefined;
  /** The board of the mail queue. */
  readonly board: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly logs: string;
};

/** What `npm start` prints once everything runs. The curl lines work as they are, in this order. */
export function welcome({ api, inbox, board, clientId, clientSecret, logs }: Addresses): string {
  const post = `curl -s -H 'content-type: application/json'`;
  return `
  API         ${api}
  API docs    ${api}/docs
  Inbox       ${inbox ?? 'mails go to SMTP_URL'}
  Mail queue  ${board}  (log in as the dev client)
  Dev client  ${clientId}  ${clientSecret}
              (scopes ${DEV_CLIENT_SCOPES.join(' ')})
  Logs        ${logs}

  Register, then open the mailed link${inbox === undefined ? '' : ' in the inbox'}:
    ${post} ${api}/v1/users -d '{"email":"ada@example.com","password":"a long and quiet walk"}'
  Log in, and keep the access token:
    TOKEN=$(${post} ${api}/v1/tokens -d '{"email":"ada@example.com","password":"a long and quiet walk"}' | sed 's/.*"access_token":"\\([^"]*\\).*/\\1/')
  Verify:
    curl -i -H "authorization: Bearer $TOKEN" ${api}/v1/verify

  npm run tour walks through all of it. Ctrl-C stops everything.
`;
}
