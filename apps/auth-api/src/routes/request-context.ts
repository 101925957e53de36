/** What of a request the domain and the queue get to see. */

import { LOCALE_PATTERN } from '@latchkey/shared/account-fields';
import { isTraceparent } from '@latchkey/shared/tracing';
import type { FastifyRequest } from 'fastify';
import { addressOf } from '../client-address.ts';
import type { RequestContext } from '../domain/request-context.ts';
import { acceptedLanguages } from '../pages/language.ts';
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

const LOCALE = new RegExp(LOCALE_PATTERN, 'u');

/** The language the browser wants most, or English. */
export const preferredLocale = ({ headers }: FastifyRequest): string =>
  acceptedLanguages(headers['accept-language']).find((tag) => LOCALE.test(tag)) ?? 'en';
