/** For whoever runs the service. */
import { setTimeout } from 'node:timers/promises';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { Metrics } from '../metrics.ts';
import { NotReady } from '../not-ready.ts';
import { answers } from './schemas.ts';

/** Milliseconds a dependency has to answer. */
const TIMEOUT = 1500;

const Check = Type.Union([Type.Literal('up'), Type.Literal('down')]);

/** A check resolves when the dependency is there, and rejects with the reason when it is not. */
export type Checks = Record<string, () => Promise<unknown>>;

export const operationRoutes: FastifyPluginAsyncTypebox<{ checks: Checks; metrics: Metrics }> = async (
  app,
  { checks, metrics },
) => {
  app.get(
    '/livez',
    {
      schema: {
        operationId: 'livez',
        tags: ['Operations'],
        summary: 'The process runs',
        response: answers({ 200: Type.Object({ status: Type.Literal('live') }) }),
      },
    },
    async () => ({ status: 'live' as const }),
  );

  const Readiness = Type.Object({
    status: Type.Union([Type.Literal('ready'), Type.Literal('not_ready')]),
    checks: Type.Record(Type.String(), Type.Object({ status: Check, reason: Type.Optional(Type.String()) })),
  });

  async function check(run: () => Promise<unknown>): Promise<{ status: 'up' } | { status: 'down'; reason: string }> {
    const late = setTimeout(TIMEOUT, undefined, { ref: false }).then(() => {
      throw new Error('no answer in time');
    });
    try {
      await Promise.race([run(), late]);
      return { status: 'up' };
    } catch (error) {
      // The reason is for operators and names no address and no credential: the first line of a driver's message may hold both.
      return { status: 'down', reason: error instanceof NotReady ? error.message : 'not reachable' };
    }
  }

  app.get(
    '/readyz',
    {
      schema: {
        operationId: 'readyz',
        tags: ['Operations'],
        summary: 'Every dependency answers',
        response: { ...answers({ 200: Readiness }), 503: Readiness },
      },
    },
    async (_request, reply) => {
      const names = Object.keys(checks);
      const results = await Promise.all(Object.values(checks).map(check));
      const ready = results.every(({ status }) => status === 'up');
      if (!ready) reply.code(503).header('retry-after', 2);
      return {
        status: ready ? ('ready' as const) : ('not_ready' as const),
        checks: Object.fromEntries(names.map((name, index) => [name, results[index] ?? { status: 'down' as const }])),
      };
    },
  );

  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'metrics',
        tags: ['Operations'],
        summary: 'Prometheus metrics',
        response: answers({ 200: Type.String({ description: 'Prometheus text format' }) }),
      },
    },
    async (_request, reply) => reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
  );
};
