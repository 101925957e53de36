/** The baseline of what is asked over HTTP: Fastify that says hello (`programs/hello.ts`). */
import { load } from './http-load.ts';
import type { Sample } from './rounds.ts';

/** As the design's figures were measured. */
export const CONNECTIONS = 64;

/**
 * Processes of it that are asked in turn. In one of six or so V8 happens to do a fifth better than in the others, for as long as it lives
 * (ADR 29); the median of the rounds is then not its.
 */
export const HELLOS = 3;

export function sayHello(url: string, seconds: number): Promise<Sample> {
  return load({ url, connections: CONNECTIONS, seconds, caller: () => ({ request: { method: 'GET', path: '/' } }) });
}
