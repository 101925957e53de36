/** Every command: its words, what it says of itself, what it does. */
import { type Api, connectApi } from './api.ts';
import type { Command, Result } from './command.ts';
import { createClient } from './create-client.ts';
import { apiSettings, databaseUrl, type Environment } from './environment.ts';
import { Failure } from './failure.ts';
import { BATCH, type ImportReport, importUsers } from './import-users.ts';
import { mailCommands } from './mail-commands.ts';
import { fields, table } from './table.ts';

const api = (env: Environment): Api => connectApi(apiSettings(env));

const CLIENT_COLUMNS = ['id', 'scopes', 'created_at', 'revoked_at'];
const KEY_COLUMNS = ['kid', 'alg', 'state', 'created_at', 'signs_from', 'expires_at', 'revoked_at'];
const SESSION_COLUMNS = ['id', 'device_name', 'ip', 'token_format', 'last_seen_at', 'expires_at'];

type Registration = { id: string; activated_at: string | null; created_at: string };

/** The id of a user named by id or address. @throws {Failure} when nobody or several are meant. */
async function userId(admin: Api, name: string): Promise<string> {
  if (!name.includes('@')) return encodeURIComponent(name);
  const found = async (more = '') =>
    ((await admin.call('GET', `/users?email=${encodeURIComponent(name)}${more}`)) as { users: Registration[] }).users;
  // The account first, by itself: more may be registered with its address than a page holds. Registrations may be suspended too.
  const [active] = await found('&status=active');
  const account = active ?? (await found('&status=suspended')).find(({ activated_at }) => activated_at !== null);
  if (account) return account.id;
  const [meant, ...others] = await found();
  if (!meant) throw new Failure('refused', `No user has the address ${name}`);
  if (others.length > 0)
    throw new Failure(
      'refused',
      `Several registrations of ${name} wait to be activated; name one by its id:\n${table(['id', 'created_at'], [meant, ...others])}`,
    );
  return meant.id;
}

async function showUser(admin: Api, id: string): Promise<Result> {
  const [user, { sessions }] = await Promise.all([
    admin.call('GET', `/users/${id}`),
    admin.call('GET', `/users/${id}/sessions`) as Promise<{ sessions?: Record<string, unknown>[] }>,
  ]);
  const list = sessions ?? [];
  const devices = list.length === 0 ? 'no sessions' : table(SESSION_COLUMNS, list);
  return { data: { ...user, sessions: list }, text: `${fields(user)}\n\n${devices}` };
}

/** RFC 3339 section 5.6. A `Date` reads much else, and `5` as a day of 2001. */
const INSTANT = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})$/i;

/** An instant in RFC 3339, or a time from now: 30m, 12h, 7d. @throws {Failure} */
function instant(text: string, now: number): string {
  const [, count, unit] = /^(\d{1,6})([mhd])$/.exec(text) ?? [];
  const minutes = { m: 1, h: 60, d: 1440 }[unit ?? ''];
  const date = new Date(minutes === undefined ? text : now + Number(count) * minutes * 60_000);
  if ((minutes === undefined && !INSTANT.test(text)) || Number.isNaN(date.getTime()))
    throw new Failure('usage', `${text} is no instant: write 2030-01-31T12:00:00Z, or 30m, 12h, 7d from now`);
  return date.toISOString();
}

/** Problems shown to a person; --json has all. */
const MOST_SHOWN = 20;

function importText({ dry_run, created, skipped, refused }: ImportReport): string {
  const shown = refused.slice(0, MOST_SHOWN);
  const more = refused.length > shown.length ? [`… and ${refused.length - shown.length} more (--json lists all)`] : [];
  const lines =
    refused.length === 0
      ? []
      : [
          '',
          table(
            ['line', 'field', 'problem'],
            shown.map((one) => ({ ...one })),
          ),
          ...more,
        ];
  const counts = { created, skipped: skipped.length, refused: new Set(refused.map(({ line }) => line)).size };
  const dry = dry_run ? ['', 'A dry run: nothing was written.'] : [];
  return [fields(counts), ...lines, ...dry].join('\n');
}

export const commands: Readonly<Record<string, Command>> = {
  'client create': {
    argument: 'id',
    summary: 'make a client; its secret is shown this once',
    options: { scopes: 'what it may do, separated by spaces or commas: admin, introspect, … (required)' },
    async run({ argument: id, options, env }) {
      const scopes = (options.scopes ?? '').split(/[\s,]+/).filter((scope) => scope !== '');
      if (scopes.length === 0) throw new Failure('usage', '--scopes is required');
      const secret = await createClient(databaseUrl(env), id, scopes);
      const created = { id, secret, scopes };
      return { data: created, text: `${fields(created)}\n\nKeep the secret now: only its hash is stored.` };
    },
  },
  'client list': {
    summary: 'all clients, the oldest first',
    async run({ env }) {
      const { clients } = (await api(env).call('GET', '/clients')) as { clients: Record<string, unknown>[] };
      return { data: clients, text: table(CLIENT_COLUMNS, clients) };
    },
  },
  'client revoke': {
    argument: 'id',
    summary: 'revoke a client and every token it has',
    irrevocable: (id) => `Client ${id} will never get a token again.`,
    async run({ argument: id, env }) {
      await api(env).call('DELETE', `/clients/${encodeURIComponent(id)}`);
      return { data: { id, revoked: true }, text: `Client ${id} is revoked.` };
    },
  },
  'keys list': {
    summary: 'signing keys, the newest first',
    async run({ env }) {
      const { keys } = (await api(env).call('GET', '/keys')) as { keys: Record<string, unknown>[] };
      return { data: keys, text: table(KEY_COLUMNS, keys) };
    },
  },
  'keys rotate': {
    summary: 'sign with the next key from now on; nobody notices',
    details: `The former key verifies what it has signed until that has expired. Refused (exit code 1) while not every verifier knows the next key, which is
so for 65 minutes after it was made: that is also the answer to the second of two calls at once.`,
    async run({ env }) {
      const rotated = await api(env).call('POST', '/keys/rotation');
      return { data: rotated, text: fields(rotated) };
    },
  },
  'keys revoke': {
    argument: 'kid',
    summary: 'refuse every token a key has signed; another key signs at once',
    details: `For a key that may be in wrong hands. Sessions go on by their refresh tokens. If it fails, repeat it. A kid that begins with "-", as an
earlier release may have made it, goes last, after "--": latchkey keys revoke --yes -- <kid>`,
    irrevocable: (kid) => `Every token signed by ${kid} will be refused at once, those of clients too.`,
    async run({ argument: kid, env }) {
      await api(env).call('DELETE', `/keys/${encodeURIComponent(kid)}`);
      return { data: { kid, revoked: true }, text: `Key ${kid} is revoked.` };
    },
  },
  'user show': {
    argument: 'id or address',
    summary: 'a user and the devices that are logged in',
    async run({ argument, env }) {
      const admin = api(env);
      return showUser(admin, await userId(admin, argument));
    },
  },
  'user suspend': {
    argument: 'id or address',
    summary: 'close the door: tokens are refused, nobody logs in',
    options: {
      until: 'instant (2030-01-31T12:00:00Z) or time from now (30m, 12h, 7d); left out: until lifted',
      reason: 'kept with the account and in the audit log',
    },
    irrevocable: (user) => `Every token of ${user} will be refused for good, also after the suspension.`,
    async run({ argument, options, env }) {
      const { until, reason } = options;
      const admin = api(env);
      const end = until === undefined ? undefined : instant(until, Date.now());
      const user = await admin.call('PUT', `/users/${await userId(admin, argument)}/suspension`, {
        ...(end !== undefined && { until: end }),
        ...(reason !== undefined && { reason }),
      });
      return { data: user, text: fields(user) };
    },
  },
  'user unsuspend': {
    argument: 'id or address',
    summary: 'end a suspension',
    async run({ argument, env }) {
      const admin = api(env);
      const id = await userId(admin, argument);
      await admin.call('DELETE', `/users/${id}/suspension`);
      const user = await admin.call('GET', `/users/${id}`);
      return { data: user, text: fields(user) };
    },
  },
  'user revoke': {
    argument: 'id or address',
    summary: 'refuse every token issued until now, or until an instant',
    options: { 'issued-before': 'instant; one to come closes login until then' },
    irrevocable: (user) => `Every device of ${user} will have to log in again.`,
    async run({ argument, options, env }) {
      const before = options['issued-before'];
      const admin = api(env);
      const answer = await admin.call(
        'POST',
        `/users/${await userId(admin, argument)}/revocations`,
        before === undefined ? {} : { issued_before: instant(before, Date.now()) },
      );
      return { data: answer, text: fields(answer) };
    },
  },
  'user import': {
    argument: 'file',
    summary: 'take accounts over with their password hashes (Django), one JSON object a line',
    flags: { 'dry-run': 'try everything, write nothing' },
    details: `Fields of a line: email (required), password_hash, display_name, locale, created_at.
Hashes: pbkdf2_sha256, pbkdf2_sha1, scrypt and argon2 as Django writes them. Each is replaced by Latchkey's own at the first login.
Without password_hash (bcrypt, an unusable password) the user sets a password by mail. Import only confirmed addresses: the accounts are active.
An address that has an account is skipped, so an import can be repeated. Each ${BATCH} lines are written whole or not at all.
Exit code 1 when a line was refused; the others are imported all the same.`,
    async run({ argument: file, flags, env }) {
      const report = await importUsers(databaseUrl(env), file, flags.has('dry-run'));
      const refused = new Set(report.refused.map(({ line }) => line)).size;
      const text = importText(report);
      return { data: report, text, ...(refused > 0 && { incomplete: `${refused} lines were refused` }) };
    },
  },
  ...mailCommands,
};
