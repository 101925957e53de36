/** Load on an HTTP server, from this process. */
import { createHistogram, performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { StackFailure } from '@latchkey/dev-stack/stack-failure';
import { placeAllWithTheYoung } from '@latchkey/shared/v8';
import autocannon from 'autocannon';
import type { Sample } from './rounds.ts';

// Autocannon's requests live until they are answered: without this it stands still for a dozen milliseconds every tenth of a second.
placeAllWithTheYoung();

/** What one connection sends, one request after the answer to the one before. */
type Caller = {
  readonly request: autocannon.Request;
  /** Asked before each request for its body; without it all requests are alike. */
  readonly body?: () => string;
  /** Told each answer's body. */
  readonly answered?: (body: string) => unknown;
};

export type Load = {
  readonly url: string;
  readonly connections: number;
  readonly seconds: number;
  /** Makes the caller of each connection. */
  readonly caller: (connection: number) => Caller;
};

/** Before each measurement, so that opening the connections is not part of it: seconds at most, and a share of the measurement. */
const SETTLE = { atMost: 0.5, share: 0.2 };

/** Milliseconds after which a server that has not answered once per connection counts as hung. */
const PATIENCE = 30_000;
const POLL = 5;

/**
 * Measures for so many seconds, and on until each connection could have had one answer: of nothing there is no rate.
 *
 * @throws StackFailure when an answer was not 2xx or a connection failed: what was measured is not what was meant.
 */
export async function load({ url, connections, seconds, caller }: Load): Promise<Sample> {
  const histogram = createHistogram();
  const problems = new Map<string, number>();
  const problem = (what: string): void => {
    problems.set(what, (problems.get(what) ?? 0) + 1);
  };
  let connection = 0;
  const run = autocannon({
    url,
    connections,
    // Until it is stopped; that it notices within `sampleInt` milliseconds.
    forever: true,
    duration: 3600,
    sampleInt: 20,
    setupClient(client) {
      client.setRequests([requestOf(caller(connection))]);
      connection += 1;
    },
  }) as unknown as autocannon.Instance;
  run.on('response', (_client, status, _bytes, milliseconds) => {
    if (status < 200 || status > 299) {
      problem(`status ${status}`);
    }
    histogram.record(Math.max(1, Math.round(milliseconds * 1000)));
  });
  run.on('reqError', (error: Error) => problem(error.message));
  const stopped = new Promise<void>((resolve) => {
    run.on('done', () => resolve());
  });

  await delay(Math.min(SETTLE.atMost, SETTLE.share * seconds) * 1000);
  histogram.reset();
  const start = performance.now();
  const idleBefore = performance.eventLoopUtilization();
  await delay(seconds * 1000);
  while (histogram.count < connections && problems.size === 0) {
    if (performance.now() - start > seconds * 1000 + PATIENCE) {
      problem(`fewer than ${connections} answers in ${PATIENCE / 1000} s`);
    }
    await delay(POLL);
  }
  const elapsed = performance.now() - start;
  const sample = {
    perSecond: (histogram.count / elapsed) * 1000,
    p50: histogram.percentile(50) / 1000,
    p99: histogram.percentile(99) / 1000,
    generatorBusy: performance.eventLoopUtilization(idleBefore).utilization,
  };
  run.stop();
  await stopped;
  if (problems.size > 0) {
    const list = [...problems].map(([what, times]) => `${times} × ${what}`).join(', ');
    throw new StackFailure(`${url}: not every request was answered well (${list}), so there is nothing to compare.`);
  }
  return sample;
}

function requestOf({ request, body, answered }: Caller): autocannon.Request {
  return {
    ...request,
    ...(body === undefined ? {} : { setupRequest: (next: autocannon.Request) => ({ ...next, body: body() }) }),
    ...(answered === undefined ? {} : { onResponse: (_status: number, text: string) => answered(text) }),
  };
}
