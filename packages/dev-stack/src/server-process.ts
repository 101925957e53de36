import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { portIsFree, portTaken } from './ports.ts';
import { type ProgramToRun, type SupervisedProcess, startProcess } from './processes.ts';
import { StackFailure } from './stack-failure.ts';

export type ServerProgram = {
  /** As messages call it. */
  readonly name: string;
  readonly port: number;
  readonly program: Omit<ProgramToRun, 'output'>;
  /** Its output goes here, and failures quote its end. */
  readonly logFile: string;
  /** Asked again and again until it says yes. */
  readonly answers: () => Promise<boolean>;
  /** Told, with the end of the log, when the server ends without having been asked to. */
  readonly onDeath?: ((lastLines: string) => void) | undefined;
};

/** Reading back what it had on disk included; an empty server needs well under 1 s. */
const READY_PATIENCE_MS = 30_000;
const POLL_MS = 10;

/** A database server as a child process: started until it answers, stopped or crashed on purpose, started again. */
export class ServerProcess {
  readonly #server: ServerProgram;
  #process: SupervisedProcess | undefined;

  constructor(server: ServerProgram) {
    this.#server = server;
  }

  /** @throws PortTaken, or StackFailure with the end of the log when it ends or does not answer. */
  async start(): Promise<void> {
    const { name, port, program, logFile } = this.#server;
    if (!(await portIsFree(port))) {
      throw portTaken(port, name);
    }
    const started = startProcess({ ...program, output: { file: logFile } });
    this.#process = started;
    let ready = false;
    let hasEnded = false;
    void started.ended.then(() => {
      hasEnded = true;
      if (ready && this.#process === started) {
        this.#process = undefined;
        this.#server.onDeath?.(this.#lastLines());
      }
    });
    const deadline = Date.now() + READY_PATIENCE_MS;
    while (!(await this.#server.answers())) {
      if (hasEnded || Date.now() > deadline) {
        await this.end('SIGKILL');
        throw (await portIsFree(port)) ? this.#failure(hasEnded) : portTaken(port, name);
      }
      await delay(POLL_MS);
    }
    ready = true;
  }

  /** Resolves once it is gone. Without a signal it ends in good order; with one, as the signal has it. */
  async end(signal?: NodeJS.Signals): Promise<void> {
    const ending = this.#process;
    this.#process = undefined;
    if (signal !== undefined) {
      ending?.signal(signal);
    }
    await ending?.stop();
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.signal(signal);
  }

  #failure(hasEnded: boolean): StackFailure {
    const { name, logFile } = this.#server;
    const what = hasEnded
      ? `${name} did not start`
      : `${name} runs but does not answer after ${READY_PATIENCE_MS / 1000} s`;
    return new StackFailure(`${what}. Its log, ${logFile}, ends with:\n${this.#lastLines()}`);
  }

  #lastLines(): string {
    return readFileSync(this.#server.logFile, 'utf8').trimEnd().split('\n').slice(-8).join('\n');
  }
}
