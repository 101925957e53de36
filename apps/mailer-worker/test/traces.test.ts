import { type CollectedSpan, startTraceCollector } from '@latchkey/dev-stack/trace-collector';
import { createLogger } from '@latchkey/shared/logger';
import { startTracing } from '@latchkey/shared/tracing';
import { expect, it, onTestFinished } from 'vitest';
import { readEnv } from '../src/env.ts';
import { createHarness } from './harness.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const ADDED = 'b7ad6b7169203331';

it('each try of a mail is a span below the one that added its job, each conversation with the mail server one below the try, and its lines name both', async () => {
  const [harness, otlp] = await Promise.all([createHarness(), startTraceCollector()]);
  onTestFinished(async () => void (await Promise.all([harness.close(), otlp.stop()])));
  const env = readEnv({ ...harness.variables, OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url });
  let refusals = 2;
  harness.hooks.reject = (phase) =>
    phase === 'rcpt' && refusals-- > 0 ? { code: 450 + refusals, message: 'later' } : undefined;
  const tracing = await startTracing('mailer-worker', env, createLogger('mailer-worker', 'silent'));
  await harness.start({ backoff: () => 20, tracing });
  const { id, to } = await harness.add('activation', { traceparent: `00-${TRACE}-${ADDED}-01` });
  await harness.settled(id);
  await tracing?.close();

  const ours = otlp.spans().filter(({ traceId }) => traceId === TRACE);
  const below = (parentId: string): CollectedSpan[] =>
    ours.filter((span) => span.parentId === parentId).toSorted((a, b) => Number(a.start - b.start));
  const tries = below(ADDED);
  const said = (span: CollectedSpan, ...names: string[]) => names.map((name) => span.attributes[name]);
  expect(
    tries.map((span) => [
      span.kind,
      span.status,
      ...said(span, 'latchkey.mail.attempt', 'latchkey.mail.outcome', 'latchkey.mail.phase', 'error.type'),
    ]),
  ).toEqual([
    [5, 2, 1, 'retried', 'smtp', '451'],
    [5, 2, 2, 'retried', 'smtp', '450'],
    [5, 0, 3, 'accepted', undefined, undefined],
  ]);
  const conversations = tries.map(({ spanId }) => below(spanId));
  expect(
    conversations.map((spans) =>
      spans.map((span) => [
        span.name,
        span.kind,
        span.status,
        ...said(span, 'latchkey.smtp.phase', 'latchkey.smtp.outcome', 'latchkey.smtp.code'),
      ]),
    ),
  ).toEqual([
    [['smtp', 3, 2, 'envelope', 'refused', 451]],
    [['smtp', 3, 2, 'envelope', 'refused', 450]],
    [['smtp', 3, 0, 'data', 'accepted', undefined]],
  ]);
  const lines = harness.logLines.map((line) => JSON.parse(line)).filter(({ trace_id }) => trace_id === TRACE);
  expect(lines.map(({ span_id, outcome }) => [span_id, outcome])).toEqual(
    tries.map(({ spanId, attributes }) => [spanId, attributes['latchkey.mail.outcome']]),
  );
  expect(otlp.text()).not.toContain(to);
});
