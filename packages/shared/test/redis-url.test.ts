import { expect, test } from 'vitest';
import { InvalidEnvironment, readEnvironment, redisUrl } from '../src/environment.ts';
import { parseRedisUrl } from '../src/redis-url.ts';

test.each([
  ['redis://localhost', { host: 'localhost', port: 6379 }],
  ['redis://localhost/', { host: 'localhost', port: 6379 }],
  ['redis://:only@localhost:7000/3', { host: 'localhost', port: 7000, password: 'only', db: 3 }],
  [
    'redis://ada:p%40ss%2Cword@[::1]:6380/0',
    { host: '::1', port: 6380, username: 'ada', password: 'p@ss,word', db: 0 },
  ],
  ['rediss://redis.example.com', { host: 'redis.example.com', port: 6379, tls: {} }],
])('one server: %s', (url, server) => {
  expect(parseRedisUrl(url)).toEqual({ server });
});

test.each([
  [
    'redis://a:1,redis://b:2',
    {
      cluster: [
        { host: 'a', port: 1 },
        { host: 'b', port: 2 },
      ],
      server: {},
    },
  ],
  ['redis://only:7000,', { cluster: [{ host: 'only', port: 7000 }], server: {} }],
  [
    'rediss://ada:pass@a, rediss://ada:pass@b/0',
    {
      cluster: [
        { host: 'a', port: 6379 },
        { host: 'b', port: 6379 },
      ],
      server: { username: 'ada', password: 'pass', tls: {} },
    },
  ],
])('Redis Cluster: %s', (url, place) => {
  expect(parseRedisUrl(url)).toEqual(place);
});

test('Sentinel: its hosts, the name of the master, a login for Redis and one for the sentinels', () => {
  expect(parseRedisUrl('redis+sentinel://a/mymaster')).toEqual({
    server: {},
    sentinel: { name: 'mymaster', sentinels: [{ host: 'a', port: 26_379 }] },
  });
  expect(
    parseRedisUrl(
      'rediss+sentinel://ada:pa:ss%40@a:1,[::1]:2/my-master.1/4?sentinelUsername=watcher&sentinelPassword=s%26cret',
    ),
  ).toEqual({
    server: { username: 'ada', password: 'pa:ss@', db: 4, tls: {} },
    sentinel: {
      name: 'my-master.1',
      sentinels: [
        { host: 'a', port: 1 },
        { host: '::1', port: 2 },
      ],
      sentinelUsername: 'watcher',
      sentinelPassword: 's&cret',
      sentinelTLS: {},
      enableTLSForSentinelMode: true,
    },
  });
});

test.each([
  ['', 'a URL redis://host:port or'],
  ['localhost:6379', 'a URL redis://host:port or'],
  ['http://h3llo@localhost', 'a URL redis://host:port or'],
  ['redis://', 'a URL redis://host:port or'],
  ['redis://h3llo@localhost?family=6', 'without query'],
  ['redis://h3llo@localhost/one', 'a number for the database'],
  ['redis://h3llo:%E0%A4%A@localhost', 'percent-encoded'],
  [',', 'a list of URLs'],
  ['redis://h3llo@a,localhost', 'a URL redis://host:port or'],
  ['redis://h3llo@a/1,redis://h3llo@b/1', 'Redis Cluster has no other'],
  ['redis://u:h3llo@a,redis://u:hell0@b', 'same scheme, user and password'],
  ['redis://h3llo@a,rediss://h3llo@b', 'same scheme, user and password'],
  ['redis+sentinel://h3llo@a:26379', 'name-of-the-master'],
  ['redis+sentinel://h3llo@a:26379,/mymaster', 'name-of-the-master'],
  ['redis+sentinel://h3llo@a:99999/mymaster', 'name-of-the-master'],
  ['redis+sentinel://h3llo@a/mymaster/x', 'name-of-the-master'],
  ['redis+sentinel://h3llo@a/mymaster?sentinelpassword=h3llo', 'no other options'],
])('what is not understood is refused by name, and not quoted: %s', (url, expected) => {
  const read = () => readEnvironment('auth-api', { REDIS_URL: redisUrl() }, { REDIS_URL: url });
  expect(read).toThrow(InvalidEnvironment);
  expect(read).toThrow(url === '' ? 'REDIS_URL' : expected);
  expect(read).not.toThrow(/h3llo|hell0/);
});
