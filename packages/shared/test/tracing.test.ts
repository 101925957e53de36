import { startTraceCollector } from '@latchkey/dev-stack/trace-collector';
import { expect, onTestFinished, test, vi } from 'vitest';
import { readEnvironment } from '../src/environment.ts';
import { createLogger } from '../src/logger.ts';
import { startTracing, tracingVariables } from '../src/tracing.ts';

async function collector() {
  const started = await startTraceCollector();
  onTestFinished(() => started.stop());
  return started;
}

async function tracingWith(env: Record<string, string>) {
  const lines: string[] = [];
  const logger = createLogger('app', 'info', { write: (line) => lines.push(line) });
  const tracing = await startTracing('app', readEnvironment('app', tracingVariables, env), logger);
  if (!tracing) throw new Error('traces are off');
  return { tracing, told: () => lines.map((line) => JSON.parse(line).msg as string) };
}

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const caller = (flags: string, traceId = TRACE) => `00-${traceId}-b7ad6b7169203331-${flags}`;

test.each([{}, { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318', OTEL_SDK_DISABLED: 'true' }])(
  'traces are off with %o',
  async (env) => {
    await expect(tracingWith(env)).rejects.toThrow('off');
  },
);

test.each([
  ['the default', {}, ['sampled', 'root']],
  ['parentbased_always_off', { OTEL_TRACES_SAMPLER: 'parentbased_always_off' }, ['sampled']],
  [
    'parentbased_traceidratio',
    { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.0' },
    ['sampled'],
  ],
  ['traceidratio', { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0' }, []],
  ['always_on', { OTEL_TRACES_SAMPLER: 'always_on' }, ['sampled', 'unsampled', 'root']],
])('%s decides which traces are recorded; the rest keep their ids all the same', async (_name, env, recorded) => {
  const otlp = await collector();
  const { tracing } = await tracingWith({ OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url, ...env });
  const flags = (name: string) => (recorded.includes(name) ? '01' : '00');
  for (const [name, parent] of [
    ['sampled', caller('01')],
    ['unsampled', caller('00')],
    ['root', undefined],
  ] as const) {
    const span = tracing.begin(name, 'SERVER', parent, {});
    const trace = parent === undefined ? '[0-9a-f]{32}' : TRACE;
    expect(span.traceparent).toMatch(new RegExp(`^00-${trace}-(?!b7ad6b7169203331)[0-9a-f]{16}-${flags(name)}$`));
    span.end();
  }
  await tracing.close();
  expect(otlp.spans().map(({ name }) => name)).toEqual(recorded);
});

test('what is no traceparent begins a trace', async () => {
  const otlp = await collector();
  const { tracing } = await tracingWith({ OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url });
  for (const nonsense of [
    '',
    'nonsense',
    caller('01', '0'.repeat(32)),
    caller('01').toUpperCase(),
    `${caller('01')}-x`,
  ])
    tracing.begin('root', 'SERVER', nonsense, {}).end();
  await tracing.close();
  const spans = otlp.spans();
  expect(spans.map(({ parentId }) => parentId)).toEqual(['', '', '', '', '']);
  expect(new Set([TRACE, ...spans.map(({ traceId }) => traceId)]).size).toBe(6);
});

test('that a collector takes no traces is said once, and once that it does again', async () => {
  const otlp = await collector();
  otlp.become('refuses');
  const { tracing, told } = await tracingWith({
    OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url,
    OTEL_BSP_SCHEDULE_DELAY: '100',
  });
  const exported = async () => {
    const before = otlp.exports();
    tracing.begin('one', 'SERVER', undefined, {}).end();
    await vi.waitFor(() => expect(otlp.exports()).toBeGreaterThan(before));
  };
  const lost = 'the collector takes no traces: they are dropped';
  await exported();
  await exported();
  await vi.waitFor(() => expect(told()).toEqual([lost]));
  otlp.become('takes');
  await exported();
  await vi.waitFor(() => expect(told()).toEqual([lost, 'the collector takes traces again']));
  await tracing.close();
});

test('a collector that never answers holds up neither the work nor the end, and a bounded number of spans waits for it', async () => {
  const otlp = await collector();
  otlp.become('deaf');
  const { tracing } = await tracingWith({ OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url });
  for (let count = 0; count < 4000; count += 1) tracing.begin('one', 'SERVER', undefined, {}).end();
  const toldAt = performance.now();
  await tracing.close();
  // The exporter alone would wait for its 10 s.
  expect(performance.now() - toldAt).toBeLessThan(8000);
  expect(otlp.spans().length).toBeLessThanOrEqual(2048 + 512);
});
