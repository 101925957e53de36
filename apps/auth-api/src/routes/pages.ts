import type { FastifyPluginAsync } from 'fastify';
export const pageRoutes: FastifyPluginAsync<any> = async () => {};
