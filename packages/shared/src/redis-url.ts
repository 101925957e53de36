/**
 * `REDIS_URL`: which Redis, in one of three forms. What is not understood is refused, never ignored: a misspelt option would otherwise be
 * noticed at the first failover.
 *
 * | form | means |
 * | --- | --- |
 * | `redis://user:password@host:6379/0` | one server |
 * | `redis://user:password@host1:6379,redis://user:password@host2:6379` | Redis Cluster, by any of its nodes; one URL and a comma: by that node |
 * | `redis+sentinel://user:password@host1:26379,host2:26379/mymaster/0?sentinelUsername=…&sentinelPassword=…` | the master Sentinel names |
 *
 * `rediss` instead of `redis` is TLS, to the sentinels too.
 */
import type { RedisOptions } from 'ioredis';

interface Address {
  host: string;
  port: number;
}

/** Where Redis is and who asks, as ioredis wants to be told. */
export interface RedisPlace {
  /** Who asks, and of one server where it is. */
  server: Pick<RedisOptions, 'host' | 'port' | 'username' | 'password' | 'db' | 'tls'>;
  /** Nodes of a Redis Cluster to ask for the others. */
  cluster?: Address[];
  /** Whom to ask for the master. */
  sentinel?: Pick<
    RedisOptions,
    'sentinels' | 'name' | 'sentinelUsername' | 'sentinelPassword' | 'sentinelTLS' | 'enableTLSForSentinelMode'
  >;
}

const SENTINEL =
  /^redis(?<secure>s?)\+sentinel:\/\/(?:(?<login>[^/?]*)@)?(?<hosts>[^/?@]+)\/(?<name>[\w.-]+)(?:\/(?<db>\d{1,5}))?(?:\?(?<query>.*))?$/;

/** @throws {Error} whose message says what is expected, and quotes nothing: a URL holds a password. */
export function parseRedisUrl(raw: string): RedisPlace {
  if (/^rediss?\+sentinel:/.test(raw)) return parseSentinel(raw);
  if (raw.includes(',')) return parseCluster(raw);
  const { url, address, login } = parseServer(raw);
  const db = /^\/?(\d{0,5})$/.exec(url.pathname)?.[1];
  if (db === undefined) throw new Error('a URL redis://host:port/database with a number for the database');
  return { server: { ...address, ...login, ...(db !== '' && { db: Number(db) }) } };
}

function parseServer(raw: string) {
  const url = URL.parse(raw);
  if (!url || !['redis:', 'rediss:'].includes(url.protocol) || url.hostname === '')
    throw new Error(
      'a URL redis://host:port or rediss://host:port, a list of such URLs separated by commas (Redis Cluster), or redis+sentinel://host:port,host:port/master',
    );
  if (url.search !== '' || url.hash !== '') throw new Error('a URL redis://host:port without query or fragment');
  const login = { ...credentials(url.username, url.password), ...(url.protocol === 'rediss:' && { tls: {} }) };
  return { url, address: addressOf(url, 6379), login };
}

function parseCluster(raw: string): RedisPlace {
  const servers = raw
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
    .map(parseServer);
  const [first] = servers;
  if (!first) throw new Error('a list of URLs redis://host:port separated by commas (Redis Cluster)');
  if (servers.some(({ url }) => !/^\/?0?$/.test(url.pathname)))
    throw new Error('URLs without a database, or with 0: Redis Cluster has no other');
  if (servers.some(({ login }) => JSON.stringify(login) !== JSON.stringify(first.login)))
    throw new Error('URLs with the same scheme, user and password for each node of the Redis Cluster');
  return { cluster: servers.map(({ address }) => address), server: first.login };
}

function parseSentinel(raw: string): RedisPlace {
  const { secure, login = '', hosts = '', name, db, query } = SENTINEL.exec(raw)?.groups ?? {};
  const sentinels = hosts.split(',').map((host) => URL.parse(`redis://${host}`));
  if (name === undefined || sentinels.some((url) => !url || url.hostname === ''))
    throw new Error('a URL redis+sentinel://user:password@host:port,host:port/name-of-the-master/database');
  const asked = new URLSearchParams(query);
  for (const option of asked.keys())
    if (option !== 'sentinelUsername' && option !== 'sentinelPassword')
      throw new Error('a URL redis+sentinel:// with no other options than sentinelUsername and sentinelPassword');
  const [username = '', ...password] = login.split(':');
  const sentinelUsername = asked.get('sentinelUsername');
  const sentinelPassword = asked.get('sentinelPassword');
  const tls = secure === 's';
  return {
    server: {
      ...credentials(username, password.join(':')),
      ...(db !== undefined && { db: Number(db) }),
      ...(tls && { tls: {} }),
    },
    sentinel: {
      name,
      sentinels: sentinels.flatMap((url) => (url ? [addressOf(url, 26_379)] : [])),
      ...(sentinelUsername !== null && { sentinelUsername }),
      ...(sentinelPassword !== null && { sentinelPassword }),
      ...(tls && { sentinelTLS: {}, enableTLSForSentinelMode: true }),
    },
  };
}

const addressOf = ({ hostname, port }: URL, otherwise: number): Address => ({
  host: hostname.replace(/^\[(.*)\]$/, '$1'),
  port: port === '' ? otherwise : Number(port),
});

function credentials(username: string, password: string): { username?: string; password?: string } {
  try {
    return {
      ...(username !== '' && { username: decodeURIComponent(username) }),
      ...(password !== '' && { password: decodeURIComponent(password) }),
    };
  } catch {
    throw new Error('a URL whose user and password are percent-encoded');
  }
}
