/** The OAuth endpoints as the clients of others see them: openid-client, oauth4webapi and jose, by nothing but the issuer's address. */
import { freePort } from '@latchkey/dev-stack/ports';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addClient, type TestClient } from './clients.ts';
import { startTestApp, type TestApp } from './test-app.ts';

let api: TestApp;
let issuer: URL;
let gateway: TestClient;
let plain: TestClient;

beforeAll(async () => {
  const port = await freePort();
  issuer = new URL(`http://127.0.0.1:${port}`);
  api = await startTestApp({ env: { PUBLIC_URL: issuer.origin } });
  await api.app.listen({ host: '127.0.0.1', port });
  [gateway, plain] = await Promise.all([
    addClient(api.databaseUrl, 'introspect', 'reports:read'),
    addClient(api.databaseUrl, 'reports:read'),
  ]);
});
afterAll(() => api.close());

describe('openid-client', () => {
  const discovered = ({ id, secret }: TestClient) =>
    openid.discovery(issuer, id, undefined, openid.ClientSecretBasic(secret), {
      algorithm: 'oauth2',
      execute: [openid.allowInsecureRequests],
    });

  test('finds the server, gets a token, has it introspected, revokes it', async () => {
    const config = await discovered(gateway);
    expect(config.serverMetadata()).toMatchObject({ issuer: issuer.origin });
    const { access_token, token_type, expires_in, scope } = await openid.clientCredentialsGrant(config, {
      scope: 'reports:read',
    });
    expect({ token_type, expires_in, scope }).toEqual({ token_type: 'bearer', expires_in: 600, scope: 'reports:read' });
    const active = await openid.tokenIntrospection(config, access_token);
    expect(active).toMatchObject({ active: true, client_id: gateway.id, scope, iss: issuer.origin });
    await openid.tokenRevocation(config, access_token);
    expect(await openid.tokenIntrospection(config, access_token)).toEqual({ active: false });
    await openid.tokenRevocation(config, access_token, { token_type_hint: 'refresh_token' });
  });

  test('tells its caller why it was refused', async () => {
    const config = await discovered(plain);
    await expect(openid.clientCredentialsGrant(config, { scope: 'admin' })).rejects.toMatchObject({
      name: 'ResponseBodyError',
      error: 'invalid_scope',
      status: 400,
      error_description: expect.stringContaining('scope'),
    });
    await expect(openid.tokenIntrospection(config, 'x')).rejects.toMatchObject({
      name: 'ResponseBodyError',
      error: 'insufficient_scope',
      status: 403,
    });
    const stranger = await discovered({ id: plain.id, secret: 'another' });
    await expect(openid.clientCredentialsGrant(stranger)).rejects.toMatchObject({
      name: 'WWWAuthenticateChallengeError',
      status: 401,
      cause: [{ scheme: 'basic', parameters: { realm: 'latchkey' } }],
    });
  });
});

describe('oauth4webapi', () => {
  const insecure = { [oauth.allowInsecureRequests]: true };
  const discover = async () =>
    oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }));

  test('finds the server, gets a token, has it introspected, revokes it', async () => {
    const as = await discover();
    const client = { client_id: gateway.id };
    const auth = oauth.ClientSecretBasic(gateway.secret);
    const introspect = async (token: string) =>
      oauth.processIntrospectionResponse(
        as,
        client,
        await oauth.introspectionRequest(as, client, auth, token, insecure),
      );
    const { access_token } = await oauth.processClientCredentialsResponse(
      as,
      client,
      await oauth.clientCredentialsGrantRequest(as, client, auth, {}, insecure),
    );
    expect(await introspect(access_token)).toMatchObject({ active: true, scope: 'introspect reports:read' });
    const revoked = await oauth.revocationRequest(as, client, auth, access_token, insecure);
    await oauth.processRevocationResponse(revoked);
    expect(await introspect(access_token)).toEqual({ active: false });
    expect(await introspect('A'.repeat(16_000))).toEqual({ active: false });
  });

  test('tells its caller why it was refused', async () => {
    const as = await discover();
    const client = { client_id: plain.id };
    const request = (parameters: Record<string, string>) =>
      oauth.genericTokenEndpointRequest(
        as,
        client,
        oauth.ClientSecretBasic(plain.secret),
        'password',
        parameters,
        insecure,
      );
    const refused = oauth.processGenericTokenEndpointResponse(as, client, await request({ username: 'ada' }));
    // The whole problem stands beside the members of RFC 6749.
    await expect(refused).rejects.toMatchObject({
      name: 'ResponseBodyError',
      error: 'unsupported_grant_type',
      cause: { code: 'unsupported_grant_type', status: 400, request_id: expect.any(String), title: expect.any(String) },
    });
  });
});

test('jose finds a client token good by the published keys, and only for whom it is', async () => {
  const config = await openid.discovery(issuer, gateway.id, undefined, openid.ClientSecretBasic(gateway.secret), {
    algorithm: 'oauth2',
    execute: [openid.allowInsecureRequests],
  });
  const { access_token } = await openid.clientCredentialsGrant(config);
  const keys = createRemoteJWKSet(new URL(config.serverMetadata().jwks_uri ?? ''));
  const expected = { issuer: issuer.origin, audience: issuer.origin, typ: 'at+jwt', algorithms: ['ES256'] };
  const { payload } = await jwtVerify(access_token, keys, expected);
  expect(payload).toMatchObject({ sub: gateway.id, client_id: gateway.id, scope: 'introspect reports:read' });
  await expect(jwtVerify(access_token, keys, { ...expected, audience: 'https://other.example' })).rejects.toThrow(
    /"aud"/,
  );
  const [header, , signature] = access_token.split('.');
  const claims = Buffer.from(JSON.stringify({ ...payload, scope: 'admin' })).toString('base64url');
  await expect(jwtVerify(`${header}.${claims}.${signature}`, keys, expected)).rejects.toThrow(/signature/);
});
