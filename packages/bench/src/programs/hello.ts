/** The baseline of every HTTP measurement: the least a Fastify can do. */
import { listen } from './control.ts';

let answered = 0;

await listen((app) => {
  app.get('/', async () => {
    answered += 1;
    return { hello: 'world' };
  });
  /** What it took, in the words of auth-api's metrics. */
  app.get('/metrics', async () => {
    const { user, system } = process.cpuUsage();
    return [
      `process_cpu_seconds_total ${(user + system) / 1e6}`,
      `latchkey_http_request_duration_seconds_count{route="/",method="GET",status="200"} ${answered}`,
    ].join('\n');
  });
});
