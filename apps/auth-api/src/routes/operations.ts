/** For whoever runs the service. */
import { setTimeout } from 'node:timers/promises';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Gauge } from 'prom-client';
import { Type } from 'typebox';
import type { Metrics } from '../metrics.ts';
import { NotReady } from '../not-ready.ts';
import { RETRY_AFTER } from '../plugins/problem-answers.ts';
import { answers, oneOf } from './schemas.ts';

/** Milliseconds a dependency has to answer. */
const TIMEOUT = 1500;

const Check = oneOf(['up', 'down']);

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
    status: oneOf(['ready', 'not_ready']),
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

  const names = Object.keys(checks);
  /** Checks that have passed since this instance started. */
  const passed = new Set<string>();

  const checkAllBut = async (excluded: readonly string[]) =>
    Object.fromEntries(
      await Promise.all(
        Object.entries(checks)
          .filter(([name]) => !(excluded.includes(name) && passed.has(name)))
          .map(async ([name, run]) => {
            const result = await check(run);
            if (result.status === 'up') passed.add(name);
            return [name, result] as const;
          }),
      ),
    );

  new Gauge({
    name: 'latchkey_check_up',
    help: '1 when this check of /readyz passes',
    labelNames: ['check'],
    registers: [metrics.registry],
    async collect() {
      for (const [name, { status }] of Object.entries(await checkAllBut([])))
        this.set({ check: name }, status === 'up' ? 1 : 0);
    },
  });

  app.get(
    '/readyz',
    {
      // A parameter given once is text to the router, given twice a list.
      preValidation: async (request) => {
        const query = request.query as Record<string, unknown>;
        if (typeof query.exclude === 'string') query.exclude = [query.exclude];
      },
      schema: {
        operationId: 'readyz',
        tags: ['Operations'],
        summary: 'Every dependency answers',
        description:
          'A check named by `exclude` is not made and decides nothing once it has passed on this instance: without PostgreSQL access tokens are verified and refreshed all the same, so a load balancer that takes every instance out while it is away ends what would go on. (Before, it counts: an instance that has never reached the database knows no keys.)',
        querystring: Type.Object(
          {
            exclude: Type.Optional(
              Type.Array(Type.Enum(names), {
                description: 'leave this check out once it has passed; may be given several times',
              }),
            ),
          },
          { additionalProperties: false },
        ),
        response: { ...answers({ 200: Readiness }), 503: Readiness },
      },
    },
    async ({ query }, reply) => {
      const results = await checkAllBut(query.exclude ?? []);
      const ready = Object.values(results).every(({ status }) => status === 'up');
      if (!ready) reply.code(503).header('retry-after', RETRY_AFTER);
      return { status: ready ? ('ready' as const) : ('not_ready' as const), checks: results };
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
