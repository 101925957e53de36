/** How connections end when an instance leaves (ADR 26). */
import { once } from 'node:events';
import type { Server } from 'node:http';
import { Server as NetServer } from 'node:net';
import { setTimeout as delay, setImmediate } from 'node:timers/promises';

/**
 * Lets nobody in any more, and lets those who are in ask once more: the app, which is closing, says with each answer that it is the last.
 * A proxy finds no connection ended that it has just sent a request on, which it must not send again when it is a POST.
 *
 * @param patience milliseconds for connections on which nothing is asked.
 */
export async function letGo(server: Server, patience: number): Promise<void> {
  if (!server.listening || patience === 0) return;
  const gone = once(server, 'close');
  // Right after a turn in which all that had come was let in: who waits at the door as it closes is turned away with their request.
  await setImmediate();
  // As net closes: http would end what is idle at once.
  NetServer.prototype.close.call(server);
  await Promise.race([gone, delay(patience, undefined, { ref: false })]);
}
