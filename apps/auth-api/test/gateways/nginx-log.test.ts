/** infra/nginx in front of auth-api, and what it writes down when auth-api can't be reached. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { programOnPath } from '@latchkey/dev-stack/system-programs';
import { expect, onTestFinished, test, vi } from 'vitest';
import { startNginx } from '../rolling/nginx.ts';

const nginx = programOnPath('nginx');
const KEY = 'K3yOfAMail'.repeat(3);

test.skipIf(nginx === undefined)(
  'no mailed key gets into the error log of nginx, however its path is written (needs nginx)',
  async () => {
    const api = createServer((_request, response) => response.end()).listen(0, '127.0.0.1');
    await once(api, 'listening');
    const { port } = api.address() as AddressInfo;
    const { url, log, stop } = await startNginx(nginx ?? '', [port]);
    onTestFinished(stop);
    api.closeAllConnections();
    api.close();
    await once(api, 'close');

    const paths = [
      ...['/activate/', '/reset-password/', '/change-email/', '/v1/activations/', '/v1/password-resets/'],
      ...['/v1/email-changes/', '/%61ctivate/', '//activate/', '/x/../activate/', '/v1//activations/'],
    ];
    for (const path of paths) {
      for (const end of ['', '/renewal', '?x=1']) {
        expect([path, (await fetch(`${url}${path}${KEY}${end}`)).status]).toEqual([path, 502]);
        expect([path, (await fetch(`${url}${path}${KEY}${end}`, { method: 'POST', body: 'x' })).status]).toEqual([
          path,
          502,
        ]);
        // More than nginx takes.
        const body = 'x'.repeat(17 * 1024);
        expect([path, (await fetch(`${url}${path}${KEY}${end}`, { method: 'POST', body })).status]).toEqual([
          path,
          413,
        ]);
      }
    }
    expect((await fetch(`${url}/v1/me`)).status).toBe(502);
    // What is no key is told as ever: whoever runs it learns that auth-api is away.
    await vi.waitFor(() => expect(log()).toContain('/v1/me'));
    expect(log()).not.toContain(KEY);
  },
);
