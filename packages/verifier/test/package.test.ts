/** The package as others get it. */
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { temporaryFolder } from '@latchkey/dev-stack/processes';
import { publint } from 'publint';
import { expect, test } from 'vitest';

const run = promisify(execFile);
const source = join(import.meta.dirname, '..');

/** Somebody's program, in every way the README shows. */
const CONSUMER = `
import {
  type AccessTokenClaims,
  createVerifier,
  type Epoch,
  type Revocations,
  type RevocationSource,
  type TokenIdentity,
  type Verifier,
} from '@latchkey/verifier';
import { VerifyError } from '@latchkey/verifier/errors';
import { latchkeyVerifier } from '@latchkey/verifier/fastify';
import { revocationFeed } from '@latchkey/verifier/feed';
import { revocationsInRedis } from '@latchkey/verifier/redis';
const sources: ((url: string) => RevocationSource)[] = [
  (url) => revocationFeed({ url, auth: { token: () => 'x' } }),
  (redis) => revocationsInRedis({ redis }),
];
const [feed] = sources;
if (!feed) process.exit(1);
const source = feed('http://127.0.0.1:9/v1/revocations');
const revocations: Revocations = { ...source, denies: (identity: TokenIdentity) => source.denies(identity) };
const epoch: Epoch | undefined = source.epoch();
const subject = (claims: AccessTokenClaims): string => claims.sub;
const verifier: Verifier = createVerifier({ issuer: 'i', audience: 'a', jwks: 'http://127.0.0.1:9/', revocations });
const error: unknown = await verifier.verify('x').catch((reason: unknown) => reason);
verifier.close();
const code: string = error instanceof VerifyError ? error.code : '';
if (code !== 'revocations_unknown' || !latchkeyVerifier || epoch || !subject) process.exit(1);
`;

/** The same without Fastify and without Redis. */
const CORE = `
import { createVerifier } from '@latchkey/verifier';
import { revocationFeed } from '@latchkey/verifier/feed';
const revocations = revocationFeed({ url: 'http://127.0.0.1:9/v1/revocations', auth: { token: () => 'x' } });
createVerifier({ issuer: 'i', audience: 'a', jwks: 'http://127.0.0.1:9/', revocations }).close();
for (const name of ['fastify', 'ioredis'])
  if (await import(name).then(() => true, () => false)) process.exit(1);
`;

test('what is published is complete: publint finds nothing, and a program of others compiles and runs with it', {
  timeout: 120_000,
}, async () => {
  const folder = temporaryFolder('package');
  const { packageManager } = JSON.parse(readFileSync(join(source, '../../package.json'), 'utf8')) as {
    packageManager: string;
  };
  await run(process.execPath, [join(source, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'], {
    cwd: source,
  });
  await run('npx', ['--yes', packageManager, 'pack', '--pack-destination', folder], { cwd: source });
  await run('tar', ['-xzf', join(folder, 'latchkey-verifier-0.1.0.tgz'), '-C', folder]);
  const packed = join(folder, 'package');
  const { messages } = await publint({ pkgDir: packed, pack: false, strict: true });
  expect(messages).toEqual([]);

  const consumer = join(folder, 'consumer');
  mkdirSync(join(consumer, 'node_modules/@latchkey'), { recursive: true });
  symlinkSync(packed, join(consumer, 'node_modules/@latchkey/verifier'));
  // Its dependencies, peers among them, as an installation would put them.
  symlinkSync(join(source, 'node_modules'), join(packed, 'node_modules'));
  symlinkSync(join(source, 'node_modules/@types'), join(consumer, 'node_modules/@types'));
  writeFileSync(join(consumer, 'package.json'), '{"type":"module"}');
  writeFileSync(join(consumer, 'main.ts'), CONSUMER);
  const flags = ['--strict', '--noEmit', '--module', 'nodenext', '--target', 'es2024', '--types', 'node', 'main.ts'];
  await run(process.execPath, [join(source, 'node_modules/typescript/bin/tsc'), ...flags], { cwd: consumer });
  await run(process.execPath, ['main.ts'], { cwd: consumer });

  // Small: what is needed for a JWT and the feed is one package, a parser of server-sent events.
  const { dependencies } = JSON.parse(readFileSync(join(packed, 'package.json'), 'utf8')) as { dependencies: object };
  expect(Object.keys(dependencies)).toEqual(['eventsource-parser']);
  rmSync(join(packed, 'node_modules'));
  mkdirSync(join(packed, 'node_modules'));
  symlinkSync(join(source, 'node_modules/eventsource-parser'), join(packed, 'node_modules/eventsource-parser'));
  writeFileSync(join(packed, 'core.mjs'), CORE);
  await run(process.execPath, ['core.mjs'], { cwd: packed });
});
