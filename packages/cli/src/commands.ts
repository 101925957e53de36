/** Every command: its words, what it says of itself, what it does. */
import { type Api, connectApi } from './api.ts';
import { createClient } from './create-client.ts';
import { apiSettings, databaseUrl, type Environment } from './environment.ts';
import { Failure } from './failure.ts';
import { fields, table } from './table.ts';

/** What a command has to tell: `data` for programs, `text` for people. */
interface Result {
  data: unknown;
  text: string;
}

interface Call {
  argument: string;
  options: Readonly<Record<string, string | undefined>>;
  env: Environment;
}

export interface Command {
  /** Name of its one argument; undefined: none. */
  argument?: string;
  summary: string;
  /** Name → what it means. All take a value. */
  options?: Readonly<Record<string, string>>;
  /** What can't be undone, as a person is asked about it. */
  irrevocable?: (argument: string) => string;
  run: (call: Call) => Promise<Result>;
}

const api = (env: Environment): Api => connectApi(apiSettings(env));

const CLIENT_COLUMNS = ['id', 'scopes', 'created_at', 'revoked_at'];
const SESSION_COLUMNS = ['id', 'device_name', 'ip', 'token_format', 'last_seen_at', 'expires_at'];

/** The id of a user named by id or address. @throws {Failure} when nobody or several are meant. */
async function userId(admin: Api, name: string): Promise<string> {
  if (!name.includes('@')) return encodeURIComponent(name);
  const { users } = (await admin.call('GET', `/users?email=${encodeURIComponent(name)}`)) as {
    users: { id: string; status: string; created_at: string }[];
  };
  const accounts = users.filter(({ status }) => status !== 'pending');
  const [meant, another] = accounts.length > 0 ? accounts : users;
  if (!meant) throw new Failure('refused', `No user has the address ${name}`);
  if (another)
    throw new Failure(
      'refused',
      `Several registrations of ${name} wait to be activated; name one by its id:\n${table(['id', 'created_at'], users)}`,
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

/** An instant in RFC 3339, or a time from now: 30m, 12h, 7d. @throws {Failure} */
function instant(text: string, now: number): string {
  const [, count, unit] = /^(\d{1,6})([mhd])$/.exec(text) ?? [];
  const minutes = { m: 1, h: 60, d: 1440 }[unit ?? ''];
  const date = new Date(minutes === undefined ? text : now + Number(count) * minutes * 60_000);
  if (Number.isNaN(date.getTime()))
    throw new Failure('usage', `${text} is no instant: write 2030-01-31T12:00:00Z, or 30m, 12h, 7d from now`);
  return date.toISOString();
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
};
