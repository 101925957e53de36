import { cpSync } from 'node:fs';
import { defineConfig } from 'rolldown';

/** One file per entry; our own packages are bundled, everything from the registry stays in node_modules. */
export default defineConfig({
  input: {
    main: 'src/main.ts',
    'password-worker': 'src/domain/password-worker.ts',
    'password-strength-worker': 'src/domain/password-strength-worker.ts',
  },
  platform: 'node',
  external: (id) => !/^(?:\.|\/|@latchkey\/)/.test(id),
  output: {
    dir: 'dist',
    format: 'esm',
    sourcemap: true,
    entryFileNames: '[name].js',
    chunkFileNames: 'shared-[hash].js',
    cleanDir: true,
  },
  plugins: [
    {
      name: 'files-read-at-run-time',
      writeBundle() {
        cpSync('src/store/lua', 'dist/lua', { recursive: true });
        cpSync('src/pages/views', 'dist/views', { recursive: true });
        cpSync('src/pages/assets', 'dist/assets', { recursive: true });
      },
    },
  ],
});
