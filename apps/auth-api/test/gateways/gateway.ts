/** Gateways in front of a service that writes down what reaches it, with a line to auth-api that can be cut. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { type Agent, createServer, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Worker } from 'node:worker_threads';
import { onFreePort } from '@latchkey/dev-stack/ports';
import { temporaryFolder } from '@latchkey/dev-stack/processes';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { ServerProcess } from '@latchkey/dev-stack/server-process';

const portOf = (server: { address(): unknown }) => (server.address() as AddressInfo).port;

type Field = [name: string, value: string];

const fieldsOf = (raw: string[]) =>
  raw.flatMap((name, index): Field[] => (index % 2 === 0 ? [[name, raw[index + 1] ?? '']] : []));

/** What came through, as it came. */
export interface Passed {
  method: string;
  url: string;
  rawHeaders: Field[];
  rawTrailers: Field[];
  body: string;
}

/** A service that answers 200 to everything and keeps what it was sent. */
export async function startService() {
  const passed: Passed[] = [];
  const server = createServer(async (incoming, response) => {
    const body = await text(incoming);
    const { method = '', url = '' } = incoming;
    const [rawHeaders, rawTrailers] = [fieldsOf(incoming.rawHeaders), fieldsOf(incoming.rawTrailers)];
    passed.push({ method, url, rawHeaders, rawTrailers, body });
    response.end('from the service');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: portOf(server),
    /** What has come through since it was last asked. */
    takePassed: () => passed.splice(0),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** A listener that nobody answers at: what comes in waits for ever, and when a few wait the rest is not even heard. In a thread that stands still. */
const DEAF = `const { parentPort, workerData } = require('node:worker_threads');
require('node:net').createServer().listen({ ...workerData, backlog: 1 }, () => {
  parentPort.postMessage('listening');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
});`;
/** More than wait in a queue of one. */
const WAITING = 4;

/** Takes a port so that no connection to it is ever made. */
async function startDeaf(port: number) {
  const worker = new Worker(DEAF, { eval: true, workerData: { port, host: '127.0.0.1' } });
  await once(worker, 'message');
  const waiting = Array.from({ length: WAITING }, () => connect(port, '127.0.0.1').on('error', () => undefined));
  await once(waiting[0] ?? worker, 'connect');
  return async () => {
    for (const socket of waiting) socket.destroy();
    await worker.terminate();
  };
}

/** A line to `target` that a test can cut, leave open and silent, or take out of reach. */
export async function startLine(target: number) {
  let state: 'open' | 'silent' = 'open';
  const sockets = new Set<Socket>();
  let made = 0;
  let said = '';
  let hear: (() => Promise<void>) | undefined;
  const server = createTcpServer((near) => {
    made += 1;
    sockets.add(near);
    near.on('error', () => undefined).on('close', () => sockets.delete(near));
    if (state === 'silent') return;
    const far = connect(target, '127.0.0.1');
    sockets.add(far);
    far.on('error', () => near.destroy()).on('close', () => sockets.delete(far));
    near.on('data', (bytes) => {
      said += bytes.toString('latin1');
    });
    near.pipe(far).pipe(near);
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = portOf(server);
  const end = () => {
    for (const socket of sockets) socket.destroy();
  };
  async function cut(): Promise<void> {
    server.close();
    end();
    await once(server, 'close');
  }
  return {
    port,
    /** Connections there were so far. */
    made: () => made,
    /** What went to `target` since it was last asked. */
    takeSaid(): string {
      const all = said;
      said = '';
      return all;
    },
    /** Connections end, and what comes after is: */
    outages: {
      /** refused, */
      gone: cut,
      /** accepted and never answered, */
      async silent() {
        state = 'silent';
        end();
      },
      /** or not even that: nobody says anything. */
      async 'out of reach'() {
        await cut();
        hear = await startDeaf(port);
      },
    },
    async mend() {
      state = 'open';
      end();
      await hear?.();
      hear = undefined;
      if (server.listening) return;
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
    },
    async close() {
      await hear?.();
      if (server.listening) await cut();
    },
  };
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
  /** The client's port: the same for two answers on one connection. */
  connection: number | undefined;
}

export interface Asked {
  method?: string;
  token?: string;
  headers?: Record<string, string>;
  body?: string;
  agent?: Agent;
}

/** Asks for a path exactly as it is written. */
export async function ask(
  port: number,
  path: string,
  { method = 'GET', token, headers, body, agent }: Asked = {},
): Promise<Answer> {
  const asking = request({
    host: '127.0.0.1',
    port,
    path,
    method,
    ...(agent ? { agent } : { agent: false }),
    headers: { ...(token !== undefined && { authorization: `Bearer ${token}` }), ...headers },
  });
  asking.end(body);
  const [response]: IncomingMessage[] = await once(asking, 'response');
  if (!response) throw new Error('no response');
  const connection = asking.socket?.localPort;
  return { status: response.statusCode ?? 0, headers: response.headers, body: await text(response), connection };
}

/** One of the configurations of infra/gateways, and how its program is started. */
export interface Gateway {
  program: string;
  /** Files of infra/gateways; the first one is the configuration. */
  files: readonly [string, ...string[]];
  args: (file: string, folder: string) => string[];
  /** A file of the system's own around it: what the program's package brings. */
  around?: { file: string; content: string };
  /** Does something to a file of it. */
  changed?: (content: string, file: string) => string;
}

/** Root's workers would otherwise be those of a user who may not see the folder. */
const nginxUser = process.getuid?.() === 0 ? 'user root;' : '';
const debianNginx = `${nginxUser} daemon off; pid nginx.pid; error_log error.log; events {}
http { access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi; include nginx.conf; }`;

export const GATEWAYS: Gateway[] = [
  {
    program: 'nginx',
    files: ['nginx.conf'],
    around: { file: 'main.conf', content: debianNginx },
    args: (_file, folder) => ['-p', folder, '-c', 'main.conf', '-e', 'error.log'],
  },
  { program: 'caddy', files: ['Caddyfile'], args: (file) => ['run', '--adapter', 'caddyfile', '--config', file] },
  { program: 'haproxy', files: ['haproxy.cfg', 'latchkey.lua'], args: (file) => ['-db', '-f', file] },
];

export const IDENTITY = ['x-auth-user', 'x-auth-session', 'x-auth-scope', 'x-auth-token-expires'];

/** Every way to write an identity header's name: what RFC 9110 section 5.6.2 allows between letters, mixtures, and the case. */
export function aliases(): string[] {
  const separators = [..."-_.!#$%&'*+^`|~"];
  return IDENTITY.flatMap((name) => {
    const parts = name.split('-');
    const uniform = separators.map((separator) => parts.join(separator));
    // Each separator of its own, - or _.
    const mixed = Array.from({ length: 2 ** (parts.length - 1) }, (_, bits) =>
      parts.map((part, index) => (index === 0 ? part : `${(bits >> (index - 1)) & 1 ? '_' : '-'}${part}`)).join(''),
    );
    const all = [...new Set([...uniform, ...mixed])];
    const title = (text: string) => text.replaceAll(/[a-z]+/g, (word) => `${word[0]?.toUpperCase()}${word.slice(1)}`);
    return [...all, ...all.map((one) => one.toUpperCase()), ...all.map(title)];
  });
}

/** The addresses of infra/gateways/README.md. */
export interface Addresses {
  authApi: number;
  service: number;
}

/** A file of infra/gateways with its variables filled in, as `envsubst` does it. @throws for a variable the README doesn't name. */
export function filledIn(file: string, { authApi, service }: Addresses, gateway: number): string {
  const values: Record<string, string | number> = {
    GATEWAY_HOST: '127.0.0.1',
    GATEWAY_PORT: gateway,
    AUTH_API_HOST: '127.0.0.1',
    AUTH_API_PORT: authApi,
    SERVICE_HOST: '127.0.0.1',
    SERVICE_PORT: service,
  };
  return readFileSync(join(repositoryRoot, 'infra/gateways', file), 'utf8').replaceAll(/\$\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    if (value === undefined) throw new Error(`${file} has an unknown variable ${name}`);
    return String(value);
  });
}

/** @returns the folder with its files. */
function configured(
  { program, files, around, changed = (content) => content }: Gateway,
  addresses: Addresses,
  port: number,
): string {
  const folder = temporaryFolder(program);
  for (const file of files) writeFileSync(join(folder, file), changed(filledIn(file, addresses, port), file));
  if (around) writeFileSync(join(folder, around.file), around.content);
  return folder;
}

/** What nginx says of its configuration. @param beside a directive of the http block that the system's own file has before ours. */
export function nginxCheck(path: string, beside = ''): string {
  const nginx = GATEWAYS.find(({ program }) => program === 'nginx');
  if (!nginx?.around) throw new Error('nginx is no gateway here');
  const around = { ...nginx.around, content: nginx.around.content.replace('include', `${beside} include`) };
  const folder = configured({ ...nginx, around }, { authApi: 3000, service: 4000 }, 8080);
  const checked = spawnSync(path, ['-t', ...nginx.args('', folder)], { encoding: 'utf8' });
  return checked.stderr;
}

export async function startGateway(gateway: Gateway, path: string, addresses: Addresses) {
  const { program, files, args } = gateway;
  return onFreePort(undefined, async (port) => {
    const folder = configured(gateway, addresses, port);
    const server = new ServerProcess({
      name: program,
      port,
      program: {
        command: path,
        args: args(join(folder, files[0]), folder),
        // Caddy keeps its state in the home folder.
        env: { PATH: process.env.PATH, HOME: folder },
        endSignal: 'SIGTERM',
      },
      logFile: join(folder, 'output.log'),
      answers: () =>
        ask(port, '/public/').then(
          ({ status }) => status === 200,
          () => false,
        ),
    });
    await server.start();
    return { port, stop: () => server.end() };
  });
}
