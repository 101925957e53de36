import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import { startWire } from './wire.ts';

test('behind what was lost on a connection nothing arrives either, as with TCP; the other way goes on', async () => {
  let received = '';
  const server = createServer((socket) => {
    socket.on('data', (data) => {
      received += data;
    });
    socket.on('error', () => undefined);
    socket.write('hello');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const seen: string[] = [];
  const wire = await startWire('a link', (server.address() as AddressInfo).port, ({ text }) => {
    seen.push(text);
    return text !== 'lost';
  });
  const client = connect(wire.port, '127.0.0.1');
  onTestFinished(() => {
    client.destroy();
    wire.close();
    server.close();
  });
  await once(client, 'data');
  client.write('first');
  await vi.waitFor(() => expect(received).toBe('first'));
  client.write('lost');
  await vi.waitFor(() => expect(seen).toContain('lost'));
  client.end('later');
  await once(client, 'close');
  expect(received).toBe('first');
});
