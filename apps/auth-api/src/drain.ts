/** How connections end when an instance leaves (ADR 26). */
import { once } from 'node:events';
import type { Server } from 'node:http';
import { Server as NetServer } from 'node:net';
import { setTimeout as delay, setImmediate } from 'node:timers/promises';

/**
 * Stops accepting connections, and leaves each open one time for one more request: the closing app answers it with `Connection: close`.
 * So a proxy finds no connection closed under a request it has just sent, which it must not send again when it is a POST.
 *
 * @param timeoutMs for connections on which nothing is asked.
 */
export async function drain(server: Server, timeoutMs: number): Promise<void> {
  if (!server.listening || timeoutMs === 0) return;
  const closed = once(server, 'close');
  // Right after a turn in which all waiting connections were accepted: one that still waits as the listener closes is reset, with its request.
  await setImmediate();
  // As net closes: http would end what is idle at once.
  NetServer.prototype.close.call(server);
  await Promise.race([closed, delay(timeoutMs, undefined, { ref: false })]);
}
