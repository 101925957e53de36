/** A mail server in a process of its own, to be killed: what it has said 250 to is in a file that outlives it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from './ports.ts';
import { type SupervisedProcess, startProcess, temporaryFolder } from './processes.ts';

export type CountedMail = { readonly to: string; readonly messageId: string; readonly raw: string };

export type CountingMailServer = {
  readonly port: number;
  /** SIGKILL, at once; resolves when it is gone. */
  kill(): Promise<void>;
  /** After `kill`: on the same port, with the same file. It answers a moment later. */
  start(): void;
  /** Every mail accepted so far, the oldest first. */
  mails(): CountedMail[];
  stop(): Promise<void>;
};

/** Answers a moment after it has been started. */
export async function startCountingMailServer(): Promise<CountingMailServer> {
  const port = await freePort();
  const folder = temporaryFolder('counting-mail-server');
  const file = join(folder, 'mails.jsonl');
  const run = (): SupervisedProcess =>
    startProcess({
      command: process.execPath,
      args: [fileURLToPath(new URL('./counting-mail-server-program.ts', import.meta.url)), String(port), file],
      env: {},
      endSignal: 'SIGTERM',
      output: { file: join(folder, 'log') },
    });
  let server = run();
  return {
    port,
    async kill() {
      server.signal('SIGKILL');
      await server.ended;
    },
    start() {
      server = run();
    },
    mails() {
      const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
      return lines.map((line) => {
        const { to, raw } = JSON.parse(line) as { to: string; raw: string };
        return { to, raw, messageId: /^Message-ID: (.*)$/im.exec(raw)?.[1]?.trim() ?? '' };
      });
    },
    stop: async () => {
      await server.stop();
    },
  };
}
