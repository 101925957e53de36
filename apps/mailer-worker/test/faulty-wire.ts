/** The way to a mail server on which one thing goes wrong, once. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** What the client says as a phase begins; at `connect` it says nothing. */
const PHASES = {
  connect: undefined,
  EHLO: /^EHLO /,
  STARTTLS: /^STARTTLS\r/,
  AUTH: /^AUTH /,
  MAIL: /^MAIL FROM:/m,
  // Pipelined behind MAIL (RFC 2920).
  RCPT: /^RCPT TO:/m,
  DATA: /^DATA\r/m,
  'final dot': /(?:^|\r\n)\.\r\n$/,
  QUIT: /^QUIT\r/,
} as const;

export type Phase = keyof typeof PHASES;
export const phases = Object.keys(PHASES) as Phase[];

/** Cut the connection; never answer; answer 421 and leave (RFC 5321 section 3.8); or, the server having understood, lose its answer. */
export type Fault = 'drop' | 'stall' | 'error' | 'answer lost';

/** @param before how often the phase goes well before that. */
export async function startFaultyWire(serverPort: number, at: Phase, fault: Fault, before = 0) {
  const open = new Set<Socket>();
  let struck = false;
  let went = 0;

  const server = createServer((client) => {
    const upstream = connect(serverPort, '127.0.0.1');
    let stalled = false;
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(from);
      from.on('error', () => undefined);
      from.on('close', () => {
        open.delete(from);
        to.destroy();
      });
    }

    function strike(): void {
      struck = true;
      if (fault === 'drop') client.destroy();
      else if (fault === 'error') client.end('421 4.3.2 a fault\r\n');
      // What follows goes nowhere.
      else stalled = true;
    }

    /** What was said before the command that is hit (the data before its final dot) still arrives. */
    function hit(data: Buffer): boolean {
      const pattern = PHASES[at];
      const place = pattern === undefined || struck ? -1 : data.toString('latin1').search(pattern);
      if (place < 0 || went++ < before) return false;
      upstream.write(fault === 'answer lost' ? data : data.subarray(0, place));
      if (fault === 'answer lost') upstream.once('data', () => client.destroy());
      strike();
      return true;
    }

    if (at === 'connect' && !struck) strike();
    client.on('data', (data) => {
      if (!stalled && !hit(data)) upstream.write(data);
    });
    upstream.on('data', (data) => {
      if (!stalled && !client.writableEnded) client.write(data);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    port: (server.address() as AddressInfo).port,
    struck: () => struck,
    close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

/** The way to a mail server that can go dark: what is sent by it then arrives nowhere, and a connection that was there meanwhile stays dead. */
export async function startDarkWire(serverPort: number) {
  const open = new Set<Socket>();
  let dead = new WeakSet<Socket>();
  let dark = false;
  const server = createServer((client) => {
    const upstream = connect(serverPort, '127.0.0.1');
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(from);
      if (dark) dead.add(from);
      from.on('error', () => undefined);
      from.on('close', () => {
        open.delete(from);
        to.destroy();
      });
      from.on('data', (data) => {
        if (!dead.has(from)) to.write(data);
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    port: (server.address() as AddressInfo).port,
    goDark() {
      dark = true;
      dead = new WeakSet(open);
    },
    heal() {
      dark = false;
    },
    close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
