/** What of a request the domain and the queue get to see. */

import { isTraceparent } from '@latchkey/shared/tracing';
import type { FastifyRequest } from 'fastify';
import { addressOf } from '../client-address.ts';
import type { RequestContext } from '../domain/request-context.ts';
import type { Device } from '../store/devices.ts';

export function requestContext(request: FastifyRequest): RequestContext {
  const { traceparent } = request.headers;
  return {
    requestId: request.id,
    traceparent: typeof traceparent === 'string' && isTraceparent(traceparent) ? traceparent : undefined,
    ip: addressOf(request.ip),
    userAgent: userAgent(request),
  };
}

/** Enough of a user agent to recognise a device by. */
const USER_AGENT_LENGTH = 200;

const userAgent = (request: FastifyRequest): string | null =>
  request.headers['user-agent']?.slice(0, USER_AGENT_LENGTH) ?? null;

export function device(request: FastifyRequest, deviceName: string | undefined): Device {
  return {
    deviceName: deviceName ?? null,
    userAgent: userAgent(request),
    ip: addressOf(request.ip),
  };
}

/** The first language the browser prefers, or English. */
export function preferredLocale(request: FastifyRequest): string {
  const first = request.headers['accept-language']?.split(/[,;]/, 1)[0]?.trim() ?? '';
  return /^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$/.test(first) ? first : 'en';
}
