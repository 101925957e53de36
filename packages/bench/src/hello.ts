/** The baseline of what is asked over HTTP: Fastify that says hello (`programs/hello.ts`). */
import { load } from './http-load.ts';
import type { Sample } from './rounds.ts';

/** As the design's figures were measured. */
export const CONNECTIONS = 64;

/**
 * Processes of it that are asked in turn. In a few V8 happens to do a fifth better than in the others (ADR 29); unless two of the three are of
 * them, the median of three rounds or five is one of the others.
 */
export const HELLOS = 3;
/** Of each, before it is asked in turn: with those in turn about as many as WARM_UPS of what it is compared with. */
export const HELLO_WARM_UPS = 2;

export function sayHello(url: string, seconds: number): Promise<Sample> {
  return load({ url, connections: CONNECTIONS, seconds, caller: () => ({ request: { method: 'GET', path: '/' } }) });
}
