/** `npm start` with stand-ins for the apps. Arguments: the state folder, then options. SIGUSR2 makes it crash. */
import { fileURLToPath } from 'node:url';
import { inheritedEnvironment, readStackSettings } from '../src/environment.ts';
import { runStack } from '../src/stack.ts';
import { stopRequestOfProcess } from '../src/stop-request.ts';

const [, , stateDir = '', ...options] = process.argv;
const app = fileURLToPath(new URL('./stand-in-app.ts', import.meta.url));

process.on('SIGUSR2', () => {
  throw new Error('a crash');
});

process.exit(
  await runStack({
    stateDir,
    fresh: options.includes('--fresh'),
    settings: readStackSettings(inheritedEnvironment()),
    programs: {
      api: [process.execPath, app],
      worker: [process.execPath, app],
      prepareDatabase: () => Promise.resolve(),
    },
    write: (text) => process.stdout.write(text),
    stop: stopRequestOfProcess(),
  }),
);
