/** What auth-api counts; names and units as Prometheus wants them. */
import { totalmem } from 'node:os';
import { getHeapStatistics } from 'node:v8';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

export type Metrics = ReturnType<typeof createMetrics>;

export function createMetrics() {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  gauge('latchkey_heap_limit_bytes', 'What the heap may grow to', () => getHeapStatistics().heap_size_limit);
  // Without a limit it says 0, or more than there is.
  gauge('latchkey_memory_limit_bytes', 'What the process may take: its container, or the machine', () =>
    Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem()),
  );
  return {
    registry,
    requests: new Histogram({
      name: 'latchkey_http_request_duration_seconds',
      help: 'Time to answer, by route pattern, method and status',
      labelNames: ['route', 'method', 'status'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
      registers,
    }),
    dependencyErrors: new Counter({
      name: 'latchkey_dependency_errors_total',
      help: 'Requests and background passes that failed because a dependency was down',
      labelNames: ['dependency'],
      registers,
    }),
    refused: new Counter({
      name: 'latchkey_refused_requests_total',
      help: 'Requests answered 503 before any work, because there was too much of it, by class',
      labelNames: ['class'],
      registers,
    }),
    droppedConnections: new Counter({
      name: 'latchkey_dropped_connections_total',
      help: 'Connections closed at once, because there were too many',
      registers,
    }),
    /** A gauge that is asked when it is scraped. */
    gauge,
  };
}
