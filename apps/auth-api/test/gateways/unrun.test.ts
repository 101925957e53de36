/**
 * The configurations of the gateways that no package of Debian brings. They were never run here: this holds them to what the others are
 * run for, and to their file format, and to no more.
 */
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { aliases, filledIn, IDENTITY } from './gateway.ts';

const read = (file: string) => parse(filledIn(file, { authApi: 3000, service: 4000 }, 8080)) as unknown;

describe('traefik', () => {
  const { entryPoints, providers } = read('traefik.yml') as {
    entryPoints: Record<string, { http: Record<string, unknown> & { encodedCharacters: Record<string, boolean> } }>;
    providers: { file: { filename: string } };
  };
  const { http } = read(providers.file.filename) as {
    http: {
      middlewares: Record<string, { headers?: { customRequestHeaders: Record<string, string> }; forwardAuth?: object }>;
      routers: Record<
        string,
        { rule: string; priority: number; middlewares?: string[]; service: string; entryPoints: string[] }
      >;
      services: Record<string, unknown>;
    };
  };

  test('drops aliases of header names and empties the identity headers at every entry point', () => {
    for (const entryPoint of Object.values(entryPoints)) {
      const { http: options } = entryPoint;
      // What a client lists in Connection is removed before our headers are set, unless this says otherwise.
      expect(entryPoint).not.toHaveProperty('forwardedHeaders');
      expect(options).toMatchObject({ aliasHeadersStrategy: 'delete', middlewares: ['strip-identity@file'] });
      expect(options).toMatchObject({ sanitizePath: true });
      expect(Object.keys(options.encodedCharacters)).toHaveLength(7);
      expect(Object.values(options.encodedCharacters)).not.toContain(true);
    }
    const stripped = http.middlewares['strip-identity']?.headers?.customRequestHeaders ?? {};
    expect(Object.keys(stripped).map((name) => name.toLowerCase())).toEqual(IDENTITY);
    expect(new Set(Object.values(stripped))).toEqual(new Set(['']));
  });

  test('asks auth-api on every router but the open one, hands it the token alone, and takes the identity from it alone', () => {
    const { refused, ...routers } = http.routers;
    expect(refused).toEqual({
      entryPoints: ['web'],
      rule: 'PathRegexp(`;`) || HeaderRegexp(`Upgrade`, `(?i)h2c`)',
      priority: 3,
      service: 'noop@internal',
    });
    for (const { rule, priority, middlewares = [], service, entryPoints: points } of Object.values(routers)) {
      expect([rule, priority < 3]).toEqual([rule, true]);
      const asked = middlewares.map((name) => http.middlewares[name]?.forwardAuth).filter((found) => found);
      expect([rule, asked.length]).toEqual([rule, rule.includes('/public/') ? 0 : 1]);
      expect(http.services).toHaveProperty(service);
      for (const point of points) expect(entryPoints).toHaveProperty(point);
    }
    for (const { forwardAuth } of Object.values(http.middlewares)) {
      if (!forwardAuth) continue;
      expect(forwardAuth).toMatchObject({
        address: expect.stringMatching(/^http:\/\/127\.0\.0\.1:3000\/v1\/verify(\?scope=reports:read)?$/),
        authRequestHeaders: ['Authorization'],
        authResponseHeaders: IDENTITY.map((name) => expect.stringMatching(new RegExp(`^${name}$`, 'i'))),
      });
      expect(forwardAuth).not.toHaveProperty('trustForwardHeader');
    }
  });

  test('asks for the scope in any case of the path, and opens one case only', () => {
    expect(http.routers).toMatchObject({ public: { rule: 'PathPrefix(`/public/`)' } });
    // Go's (?i) is a flag of the pattern in JavaScript.
    const [, pattern = ''] = /^PathRegexp\(`\(\?i\)(.+)`\)$/.exec(http.routers.reports?.rule ?? '') ?? [];
    const reports = new RegExp(pattern, 'i');
    for (const path of ['/reports', '/reports/1', '/REPORTS', '/Reports/1'])
      expect([path, pattern !== '' && reports.test(path)]).toEqual([path, true]);
    for (const path of ['/reportsx', '/x/reports', '/']) expect([path, reports.test(path)]).toEqual([path, false]);
  });
});

describe('envoy', () => {
  interface Service {
    path_prefix?: string;
    server_uri: object;
    path_override: string;
    authorization_response: { allowed_upstream_headers: { patterns: { exact: string }[] } };
  }
  interface Route {
    match: {
      prefix?: string;
      path_separated_prefix?: string;
      safe_regex?: { regex: string };
      case_sensitive?: boolean;
    };
    typed_per_filter_config?: Record<string, { disabled?: boolean; check_settings?: { http_service: Service } }>;
  }
  interface Filter {
    name: string;
    typed_config: {
      mutations: { request_mutations: { remove_on_match: { key_matcher: { safe_regex: { regex: string } } } }[] };
      failure_mode_allow: boolean;
      status_on_error: object;
      http_service: Service;
    };
  }
  interface Manager {
    http_filters: Filter[];
    route_config: { virtual_hosts: { routes: Route[] }[] };
    [option: string]: unknown;
  }
  const { static_resources } = read('envoy.yaml') as {
    static_resources: { listeners: { filter_chains: { filters: { typed_config: Manager }[] }[] }[] };
  };
  const manager = static_resources.listeners[0]?.filter_chains[0]?.filters[0]?.typed_config;
  const filters = manager?.http_filters ?? [];
  const routes = manager?.route_config.virtual_hosts[0]?.routes ?? [];
  const authz = filters.find(({ name }) => name === 'envoy.filters.http.ext_authz')?.typed_config;

  test('removes every alias of an identity header before it asks auth-api', () => {
    expect(filters.map(({ name }) => name)).toEqual([
      'envoy.filters.http.header_mutation',
      'envoy.filters.http.ext_authz',
      'envoy.filters.http.router',
    ]);
    const removed = filters[0]?.typed_config.mutations.request_mutations.map(
      ({ remove_on_match }) => new RegExp(`^(?:${remove_on_match.key_matcher.safe_regex.regex})$`),
    );
    for (const name of [...IDENTITY, ...aliases()])
      expect([name, removed?.some((pattern) => pattern.test(name.toLowerCase()))]).toEqual([name, true]);
    for (const name of ['x-author', 'x-request-id', 'authorization', 'xauth', 'x-forwarded-for'])
      expect([name, removed?.some((pattern) => pattern.test(name))]).toEqual([name, false]);
  });

  test('asks auth-api with nothing of the client in the address, on every route but the open one, and is closed when it fails', () => {
    expect(manager).toMatchObject({
      normalize_path: true,
      merge_slashes: true,
      path_with_escaped_slashes_action: 'REJECT_REQUEST',
      common_http_protocol_options: { headers_with_underscores_action: 'DROP_HEADER' },
    });
    expect(authz).toMatchObject({
      failure_mode_allow: false,
      status_on_error: { code: 'ServiceUnavailable' },
      clear_route_cache: false,
    });
    const own = routes.map(({ typed_per_filter_config: config }) => config?.['envoy.filters.http.ext_authz']);
    const services = [authz?.http_service, ...own.map((settings) => settings?.check_settings?.http_service)];
    for (const service of services.filter((found) => found !== undefined)) {
      expect(service.server_uri).toMatchObject({ cluster: 'latchkey', timeout: '3s' });
      expect(service.path_override).toMatch(/^\/v1\/verify(\?scope=reports:read)?$/);
      expect(service).not.toHaveProperty('path_prefix');
      const { patterns } = service.authorization_response.allowed_upstream_headers;
      expect(patterns.map(({ exact }) => exact)).toEqual(IDENTITY);
    }
    const open = routes.filter((_, index) => own[index]?.disabled === true).map(({ match }) => match);
    expect(open).toEqual([{ safe_regex: expect.anything() }, { prefix: '/public/' }]);
    expect(routes.map(({ match }) => match.path_separated_prefix ?? match.prefix)).toEqual([
      undefined,
      '/public/',
      '/reports',
      '/',
    ]);
  });

  test('asks for the scope in any case of the path, and opens one case only', () => {
    expect(routes.map(({ match }) => match.case_sensitive)).toEqual([undefined, undefined, false, undefined]);
  });

  test('refuses an encoded character that needs no encoding, a semicolon however it is written, a zero byte, and no other', () => {
    const pattern = new RegExp(`^(?:${routes[0]?.match.safe_regex?.regex})$`);
    for (let code = 0; code < 256; code += 1) {
      const hex = code.toString(16).padStart(2, '0');
      const unreserved = /^[A-Za-z0-9._~-]$/.test(String.fromCharCode(code));
      for (const encoded of [`/%${hex}eports`, `/a%${hex.toUpperCase()}`])
        expect([encoded, pattern.test(encoded)]).toEqual([encoded, unreserved || hex === '3b' || hex === '00']);
    }
    expect(pattern.test('/public/..;/reports/1')).toBe(true);
  });
});
