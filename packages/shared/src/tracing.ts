/**
 * Traces, for a collector that speaks OTLP over HTTP (OpenTelemetry). Unless one is named, nothing of the SDK is loaded, and there is no
 * {@link Tracing} to begin a span with.
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { Attributes, SpanKind } from '@opentelemetry/api';
import type { SpanExporter } from '@opentelemetry/sdk-trace';
import type { CleanedEnv } from 'envalid';
import type { Logger } from 'pino';
import { fraction, milliseconds, oneOf, publicUrl, trueOrFalse } from './environment.ts';

/**
 * The standard variables the SDK leaves to whoever starts it. What it reads itself: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES and the other
 * OTEL_EXPORTER_OTLP_*.
 */
export const tracingVariables = {
  OTEL_EXPORTER_OTLP_ENDPOINT: publicUrl({ default: undefined }),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: publicUrl({ default: undefined }),
  OTEL_EXPORTER_OTLP_PROTOCOL: oneOf('http/protobuf')({ default: 'http/protobuf' }),
  OTEL_SDK_DISABLED: trueOrFalse({ default: false }),
  OTEL_TRACES_SAMPLER: oneOf(
    'always_on',
    'always_off',
    'traceidratio',
    'parentbased_always_on',
    'parentbased_always_off',
    'parentbased_traceidratio',
  )({ default: 'parentbased_always_on' }),
  OTEL_TRACES_SAMPLER_ARG: fraction({ default: 1 }),
  OTEL_BSP_SCHEDULE_DELAY: milliseconds({ default: 5000 }),
};

type TracingEnv = Pick<CleanedEnv<typeof tracingVariables>, keyof typeof tracingVariables>;

/** Spans that wait for the collector; what comes on top is dropped. */
const MOST_WAITING = 2048;
/** Milliseconds the last spans may take when the app ends; all else has ended before. */
const FLUSH_WITHIN = 1500;

export interface Span {
  /** What follows from it has this for a parent (W3C Trace Context). */
  readonly traceparent: string;
  /** @param error why it failed, in a word or a code (`error.type`); none if it did not. */
  end(attributes?: Attributes, error?: string): void;
}

export interface Tracing {
  /**
   * @param name of few different values, as all attributes: nothing of a person, no secret.
   * @param parent a `traceparent`; without a valid one the span begins a trace.
   */
  begin(name: string, kind: keyof typeof SpanKind, parent: string | undefined, attributes: Attributes): Span;
  /** Sends what waits, within a bound. Always resolves. */
  close(): Promise<void>;
}

/** W3C Trace Context section 3.2, version 00. */
const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

export const isTraceparent = (text: string): boolean => TRACEPARENT.test(text);

/** What a log line has of a span, so that it is found beside it. */
export function traceIds(traceparent: string): { trace_id?: string; span_id?: string } {
  const [, trace_id, span_id] = TRACEPARENT.exec(traceparent) ?? [];
  return trace_id === undefined || span_id === undefined ? {} : { trace_id, span_id };
}

/** @returns undefined when no collector is named. @param service what it is called there, unless OTEL_SERVICE_NAME says so. */
export async function startTracing(service: string, env: TracingEnv, logger: Logger): Promise<Tracing | undefined> {
  const base = env.OTEL_EXPORTER_OTLP_ENDPOINT;
  const url = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? (base && `${base}/v1/traces`);
  if (url === undefined || env.OTEL_SDK_DISABLED) return undefined;

  const [api, sdk, resources, { OTLPTraceExporter }] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/exporter-trace-otlp-proto'),
  ]);
  const rule = env.OTEL_TRACES_SAMPLER;
  const ratio = rule.endsWith('always_on') ? 1 : rule.endsWith('always_off') ? 0 : env.OTEL_TRACES_SAMPLER_ARG;
  const root = new sdk.TraceIdRatioBasedSampler(ratio);
  const provider = new sdk.TracerProvider({
    resource: resources
      .defaultResource()
      .merge(resources.resourceFromAttributes({ 'service.name': service }))
      .merge(
        resources.detectResources({
          detectors: [
            resources.serviceInstanceIdDetector,
            resources.resourceAttributesEnvDetector,
            resources.serviceNameEnvDetector,
          ],
        }),
      ),
    sampler: rule.startsWith('parentbased_') ? new sdk.ParentBasedSampler({ root }) : root,
    spanProcessors: [
      new sdk.BatchSpanProcessor({
        exporter: reporting(new OTLPTraceExporter({ url }), logger),
        maxQueueSize: MOST_WAITING,
        scheduledDelayMillis: env.OTEL_BSP_SCHEDULE_DELAY,
      }),
    ],
  });
  const tracer = provider.getTracer('latchkey');

  function contextOf(parent = '') {
    const [, traceId = '', spanId = '', flags = ''] = TRACEPARENT.exec(parent) ?? [];
    // One that is not valid is no parent to the SDK.
    const spanContext = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true };
    return api.trace.setSpanContext(api.ROOT_CONTEXT, spanContext);
  }

  return {
    begin(name, kind, parent, attributes) {
      const span = tracer.startSpan(name, { kind: api.SpanKind[kind], attributes }, contextOf(parent));
      const { traceId, spanId, traceFlags } = span.spanContext();
      return {
        traceparent: `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`,
        end(more = {}, error) {
          span.setAttributes(more);
          if (error !== undefined) {
            span.setAttribute('error.type', error);
            span.setStatus({ code: api.SpanStatusCode.ERROR });
          }
          span.end();
        },
      };
    },
    async close() {
      // That the last spans were not taken is said where they are sent.
      const flushed = provider.shutdown().catch(() => undefined);
      await Promise.race([flushed, wait(FLUSH_WITHIN, undefined, { ref: false })]);
    },
  };
}

/** Says once that spans are lost, and once that they no longer are. */
function reporting(exporter: SpanExporter, logger: Logger): SpanExporter {
  let failing = false;
  return {
    export(spans, done) {
      exporter.export(spans, (result) => {
        const failed = result.error !== undefined;
        if (failed && !failing) logger.warn({ err: result.error }, 'the collector takes no traces: they are dropped');
        if (!failed && failing) logger.info('the collector takes traces again');
        failing = failed;
        done(result);
      });
    },
    shutdown: () => exporter.shutdown(),
  };
}
