/** A wire between a program and a server that somebody watches: chunk by chunk, and decides whether each arrives. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface Chunk {
  readonly link: string;
  /** Tells the connections of a link apart. */
  readonly connection: number;
  readonly toServer: boolean;
  readonly text: string;
}

/** @param arrives asked of each chunk before it goes on; behind one that does not, nothing does. */
export async function startWire(link: string, serverPort: number, arrives: (chunk: Chunk) => boolean) {
  let connections = 0;
  const open = new Set<Socket>();

  const server = createServer((client) => {
    const connection = connections++;
    const upstream = connect(serverPort, '127.0.0.1');
    const join = (from: Socket, to: Socket, toServer: boolean) => {
      open.add(from);
      let lost = false;
      from.on('data', (data) => {
        lost ||= !arrives({ link, connection, toServer, text: data.toString('latin1') });
        if (!lost) to.write(data);
      });
      // A dead end is dead for both: the other learns of it as it would from the kernel.
      from.on('error', () => undefined);
      from.on('close', () => {
        open.delete(from);
        to.destroy();
      });
    };
    join(client, upstream, true);
    join(upstream, client, false);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    port: (server.address() as AddressInfo).port,
    close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
