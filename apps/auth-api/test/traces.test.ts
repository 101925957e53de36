import { randomBytes } from 'node:crypto';
import { freePort } from '@latchkey/dev-stack/ports';
import { type CollectedSpan, startTraceCollector } from '@latchkey/dev-stack/trace-collector';
import { readEnvironment } from '@latchkey/shared/environment';
import { createLogger } from '@latchkey/shared/logger';
import { startTracing, tracingVariables } from '@latchkey/shared/tracing';
import fastify from 'fastify';
import { expect, onTestFinished, test, vi } from 'vitest';
import { requestSpans } from '../src/plugins/request-spans.ts';
import {
  MASTER_KEY,
  newAddress,
  PASSWORD,
  sdkModules,
  startAppProcess,
  startMailSide,
  TELLS_MODULES,
  testEnvironment,
} from './test-app.ts';

/** Both production builds, on stores of their own, told the same of traces. @returns how to ask them, and how to end them. */
async function startBoth(apiEnv: Record<string, string>, workerEnv = apiEnv) {
  const side = await startMailSide(workerEnv);
  onTestFinished(() => side.stop());
  const [api, worker] = await Promise.all([
    startAppProcess('auth-api', testEnvironment(side, apiEnv)),
    side.startWorker(),
  ]);
  const stop = () => Promise.all([api.stop(), worker.stop()]);
  onTestFinished(async () => void (await stop()));
  const call = (method: string, path: string, body?: object, headers: Record<string, string> = {}) =>
    fetch(api.url + path, {
      method,
      headers: { ...(body && { 'content-type': 'application/json' }), ...headers },
      ...(body && { body: JSON.stringify(body) }),
    });
  return {
    side,
    api,
    worker,
    call,
    stop,
    register: (email: string, headers?: Record<string, string>) =>
      call('POST', '/v1/users', { email, password: PASSWORD }, headers),
  };
}

const linesOf = (output: readonly string[]) =>
  output.filter((line) => line.startsWith('{')).map((line): Record<string, unknown> => JSON.parse(line));

async function collector() {
  const started = await startTraceCollector();
  onTestFinished(() => started.stop());
  return started;
}

test('a registration is one trace from the request to the mail server, as are its log lines; no secret and no address is told, and verifying is no span', async () => {
  const otlp = await collector();
  const { side, api, worker, call, register, stop } = await startBoth({
    OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url,
    // Nothing is sent before the end: what is there then was sent by it.
    OTEL_BSP_SCHEDULE_DELAY: '600000',
    NODE_OPTIONS: TELLS_MODULES,
  });
  const traceId = randomBytes(16).toString('hex');
  const callerId = randomBytes(8).toString('hex');
  const requestId = `r-${traceId}`;
  const email = newAddress('grace');
  const headers = { traceparent: `00-${traceId}-${callerId}-01`, 'x-request-id': requestId };
  expect((await register(email, headers)).status).toBe(202);
  const key = await side.activationKey(email);

  expect((await call('GET', `/activate/${key}`)).status).toBe(200);
  expect((await call('POST', `/v1/activations/${key}`)).status).toBe(200);
  const login = await call('POST', '/v1/tokens', { email, password: PASSWORD });
  const { access_token, refresh_token } = (await login.json()) as { access_token: string; refresh_token: string };
  const bearer = { authorization: `Bearer ${access_token}` };
  expect((await call('GET', '/v1/verify', undefined, bearer)).status).toBe(200);
  expect((await call('GET', '/v1/verify', undefined, { authorization: 'Bearer x' })).status).toBe(401);
  expect((await call('GET', `/nowhere/${key}?email=${email}`, undefined, bearer)).status).toBe(404);
  expect(otlp.exports()).toBe(0);
  await stop();

  const spans = otlp.spans();
  const ours = spans.filter((span) => span.traceId === traceId);
  const below = (parentId: string): CollectedSpan => {
    const [child, ...others] = ours.filter((span) => span.parentId === parentId);
    if (!child || others.length > 0)
      throw new Error(`not one span below: ${JSON.stringify(ours.map(({ name }) => name))}`);
    return child;
  };
  const request = below(callerId);
  const added = below(request.spanId);
  const tried = below(added.spanId);
  const conversation = below(tried.spanId);
  expect(ours).toHaveLength(4);
  expect(ours.filter(({ start, end, status }) => end < start || status !== 0)).toEqual([]);
  expect(request).toMatchObject({
    service: 'auth-api',
    name: 'POST /v1/users',
    kind: 2,
    attributes: {
      'http.request.method': 'POST',
      'http.route': '/v1/users',
      'http.response.status_code': 202,
      'url.scheme': 'http',
    },
  });
  const mail = { 'messaging.system': 'bullmq', 'messaging.destination.name': 'mail' };
  expect(added).toMatchObject({ service: 'auth-api', name: 'add mail', kind: 4, attributes: mail });
  expect(tried).toMatchObject({
    service: 'mailer-worker',
    name: 'process mail',
    kind: 5,
    attributes: {
      ...mail,
      'messaging.message.id': added.attributes['messaging.message.id'],
      'latchkey.mail.outcome': 'accepted',
    },
  });
  expect(conversation).toMatchObject({ service: 'mailer-worker', name: 'smtp', kind: 3 });

  const about = (output: readonly string[]) =>
    linesOf(output)
      .filter(({ request_id }) => request_id === requestId)
      .map(({ trace_id, span_id }) => ({ trace_id, span_id }));
  expect(about(api.output)).toEqual([{ trace_id: traceId, span_id: request.spanId }]);
  expect(about(worker.output)).toEqual([{ trace_id: traceId, span_id: tried.spanId }]);

  expect(spans.map(({ name }) => name).filter((name) => !ours.some((span) => span.name === name))).toEqual([
    'GET /activate/:key',
    'POST /v1/activations/:key',
    'POST /v1/tokens',
    'GET',
  ]);
  const told = [email.split('@', 1)[0], key, PASSWORD, MASTER_KEY.toString('base64'), access_token, refresh_token];
  for (const secret of told) expect(otlp.text()).not.toContain(secret);
  // What the test of the builds sees none of (build.test.ts).
  for (const { output } of [api, worker]) expect(sdkModules(output).length).toBeGreaterThan(0);
});

test('a request that fails and one whose caller goes away end their spans too, as errors', async () => {
  const otlp = await collector();
  const tracing = await startTracing(
    'auth-api',
    readEnvironment('auth-api', tracingVariables, { OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url }),
    createLogger('auth-api', 'silent'),
  );
  if (!tracing) throw new Error('traces are off');
  const app = fastify({ forceCloseConnections: true });
  onTestFinished(() => app.close());
  await app.register(requestSpans, { tracing });
  const arrived = Promise.withResolvers<void>();
  const left = Promise.withResolvers<void>();
  app.get('/fails', (_request, reply) => reply.code(503).send());
  app.get('/hangs', async (_request, reply) => {
    arrived.resolve();
    reply.raw.once('close', left.resolve);
    await left.promise;
  });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  expect((await fetch(`${url}/fails`)).status).toBe(503);
  const caller = new AbortController();
  const gone = expect(fetch(`${url}/hangs`, { signal: caller.signal })).rejects.toThrow();
  await arrived.promise;
  caller.abort();
  await Promise.all([gone, left.promise]);
  await tracing.close();
  expect(otlp.spans()).toMatchObject([
    { name: 'GET /fails', status: 2, attributes: { 'http.response.status_code': 503, 'error.type': '503' } },
    { name: 'GET /hangs', status: 2, attributes: { 'error.type': 'caller_went_away' } },
  ]);
  expect(otlp.spans()[1]?.attributes).not.toHaveProperty('http.response.status_code');
});

test('a collector that is away, or never answers, costs no request and no mail, and holds up no end', async () => {
  const otlp = await collector();
  otlp.become('deaf');
  const soon = { OTEL_BSP_SCHEDULE_DELAY: '100' };
  const { side, register, stop } = await startBoth(
    { ...soon, OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url },
    { ...soon, OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${await freePort()}` },
  );
  const emails = [newAddress(), newAddress(), newAddress()];
  for (const email of emails) {
    expect((await register(email)).status).toBe(202);
    await side.mail.waitFor(email);
  }
  await vi.waitFor(() => expect(otlp.exports()).toBeGreaterThan(0));
  // One that is not done after its bound of 9 or 10 s says so by its exit code.
  expect((await stop()).map(({ code }) => code)).toEqual([0, 0]);
});
