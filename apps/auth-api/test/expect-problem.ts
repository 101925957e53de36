/** What every refusal must look like (contract, "HTTP"; RFC 9457). */
import type { LightMyRequestResponse } from 'fastify';
import { expect } from 'vitest';

interface Expected {
  status: number;
  code: string;
  /** The field that must be named. */
  pointer?: string;
}

/** Asserts a problem of this status and code, complete and, where a field is to blame, naming it. */
export function expectProblem(response: LightMyRequestResponse, { status, code, pointer }: Expected): void {
  expect({ status: response.statusCode, body: response.body }).toMatchObject({ status });
  expect(response.headers['content-type']).toMatch(/^application\/problem\+json/);
  const body = response.json();
  expect(body).toMatchObject({
    type: `urn:latchkey:problem:${code}`,
    title: expect.any(String),
    status,
    code,
    request_id: response.headers['x-request-id'],
  });
  if (status === 429 || status === 503) expect(Number(response.headers['retry-after'])).toBeGreaterThan(0);
  if (pointer !== undefined) expect(body.errors).toContainEqual({ pointer, detail: expect.stringMatching(/\S/) });
}
