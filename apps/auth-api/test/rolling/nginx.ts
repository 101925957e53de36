/** nginx as compose.yaml runs it: infra/nginx, with other paths, ports and instances. */
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { onFreePort } from '@latchkey/dev-stack/ports';
import { temporaryFolder } from '@latchkey/dev-stack/processes';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { ServerProcess } from '@latchkey/dev-stack/server-process';

const read = (file: string) => readFileSync(join(repositoryRoot, 'infra/nginx', file), 'utf8');

/** What the image's command line adds. Root's workers would else be those of a user who may not see the folder. */
const GLOBAL = `daemon off;${process.getuid?.() === 0 ? ' user root;' : ''}`;

/** @param path of the program. @param instances ports of auth-api. */
export function startNginx(path: string, instances: readonly number[]) {
  return onFreePort(undefined, async (port) => {
    const folder = temporaryFolder('nginx');
    const args = ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr', '-g', GLOBAL];
    const lines = read('upstreams.conf').trim().split('\n');
    /** The lines of upstreams.conf for these instances. */
    const list = (listed: readonly number[]) =>
      writeFileSync(
        join(folder, 'upstreams.conf'),
        listed.map((one) => lines[instances.indexOf(one)]?.replace(/auth-api-\d:3000/, `127.0.0.1:${one}`)).join('\n'),
      );
    const here = read('nginx.conf')
      .replaceAll('/tmp/', `${folder}/`)
      .replace('listen 8080;', `listen 127.0.0.1:${port};`);
    writeFileSync(join(folder, 'nginx.conf'), here);
    list(instances);
    const server = new ServerProcess({
      name: 'nginx',
      port,
      program: { command: path, args, env: {}, endSignal: 'SIGTERM' },
      logFile: join(folder, 'output.log'),
      answers: () =>
        fetch(`http://127.0.0.1:${port}/.well-known/jwks.json`).then(
          ({ ok }) => ok,
          () => false,
        ),
    });
    await server.start();
    return {
      url: `http://127.0.0.1:${port}`,
      /** As an operator does: writes upstreams.conf, `nginx -s reload`. */
      async listOnly(listed: readonly number[]): Promise<void> {
        list(listed);
        await promisify(execFile)(path, [...args, '-s', 'reload']);
      },
      log: () => readFileSync(join(folder, 'output.log'), 'utf8'),
      stop: () => server.end(),
    };
  });
}
