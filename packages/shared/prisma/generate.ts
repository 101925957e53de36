/**
 * Writes the Prisma client to `src/generated/`. The CLI insists on a native schema engine, which it would download, though
 * generating needs none: any executable named by PRISMA_SCHEMA_ENGINE_BINARY satisfies it (ADR 0002).
 */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);
const cli = join(dirname(require.resolve('prisma/package.json')), 'build', 'index.js');
const { status, stdout, stderr } = spawnSync(
  process.execPath,
  [cli, 'generate', '--schema', join(import.meta.dirname, 'schema.prisma')],
  {
    encoding: 'utf8',
    env: {
      ...process.env,
      PRISMA_SCHEMA_ENGINE_BINARY: process.execPath,
      PRISMA_HIDE_UPDATE_MESSAGE: '1',
      CHECKPOINT_DISABLE: '1',
    },
  },
);
if (status !== 0) {
  process.stderr.write(stdout + stderr);
  process.exit(1);
}
