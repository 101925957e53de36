/** Preloaded into an app by `node --expose-gc --import`: what its /metrics says of memory is what is left after a full collection. */
import { subscribe } from 'node:diagnostics_channel';
import type { IncomingMessage } from 'node:http';

subscribe('http.server.request.start', (message) => {
  const { request } = message as { request: IncomingMessage };
  if (request.url === '/metrics') globalThis.gc?.();
});
