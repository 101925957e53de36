/** The baseline of every HTTP measurement: the least a Fastify can do. */
import { listen } from './control.ts';

await listen((app) => {
  app.get('/', async () => ({ hello: 'world' }));
});
