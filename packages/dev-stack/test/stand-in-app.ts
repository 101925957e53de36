/** Stands in for an app: ready at once, drains on SIGTERM. GET /die: it dies with a last word; /deaf: it drains no more; /env. */
import { createServer } from 'node:http';

let deaf = false;
const server = createServer((request, response) => {
  // An app is told everything by its environment alone.
  response.end(request.url === '/env' ? JSON.stringify(process.env) : 'ok');
  deaf ||= request.url === '/deaf';
  if (request.url === '/die') {
    process.stdout.write(`${JSON.stringify({ level: 60, msg: 'the last word' })}\n`, () => process.exit(3));
  }
});
server.listen(Number(process.env.PORT), process.env.HOST || '127.0.0.1');
process.on('SIGTERM', () => deaf || server.close(() => process.exit(0)));
