/** Accounts for suites that are about something else. */
import type { startMailSide, TestApp } from './test-app.ts';
import { newAddress, PASSWORD } from './test-app.ts';

export interface TokenResponse {
  access_token: string;
  refresh_token: string;
  expires_in: number;
  refresh_expires_in: number;
  session: { id: string; device_name: string | null; created_at: string };
  first_session: boolean;
}

/** Registers and activates by the mailed key, as a person would. @returns the address; the password is `PASSWORD`. */
export async function activeUser(api: TestApp, side: Awaited<ReturnType<typeof startMailSide>>): Promise<string> {
  const email = newAddress();
  await api.register(email);
  const key = await side.activationKey(email);
  const activated = await api.post(`/v1/activations/${key}`);
  if (activated.statusCode !== 200) throw new Error(`activation answered ${activated.statusCode} ${activated.body}`);
  return email;
}

/** Logs in. @throws when the answer is not 200. */
export async function logIn(api: TestApp, email: string, deviceName?: string): Promise<TokenResponse> {
  const response = await api.login(email, PASSWORD, deviceName);
  if (response.statusCode !== 200) throw new Error(`login answered ${response.statusCode} ${response.body}`);
  return response.json();
}

/** The parts of a JWT, unverified. */
export function decoded(token: string): { header: Record<string, unknown>; claims: Record<string, unknown> } {
  const [header, claims] = token.split('.').map((part) => Buffer.from(part, 'base64url').toString());
  return {
    header: JSON.parse(header ?? '') as Record<string, unknown>,
    claims: JSON.parse(claims ?? '') as Record<string, unknown>,
  };
}
