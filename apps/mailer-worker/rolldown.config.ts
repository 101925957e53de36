import { cpSync } from 'node:fs';
import { defineConfig } from 'rolldown';

/** One file that holds this app and the workspace packages; everything from the registry is installed beside it. */
export default defineConfig({
  input: 'src/main.ts',
  platform: 'node',
  external: (id) => !/^(?:[./]|@latchkey\/)/.test(id),
  output: { file: 'dist/main.js', format: 'esm', sourcemap: true },
  plugins: [
    {
      name: 'files-read-at-run-time',
      writeBundle() {
        cpSync('src/lua', 'dist/lua', { recursive: true });
      },
    },
  ],
});
