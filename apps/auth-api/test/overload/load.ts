/**
 * Load from a process of its own: so many requests a second, whether the service keeps up or not (nothing waits for an answer before it
 * asks the next, as the callers of a service don't). Reads a {@link LoadPlan} from stdin, writes a {@link LoadReport} to stdout.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createHistogram, performance, type RecordableHistogram } from 'node:perf_hooks';
import { text } from 'node:stream/consumers';
import { setInterval, setTimeout } from 'node:timers/promises';

/** What is asked again and again. */
interface Caller {
  name: string;
  perSecond: number;
  /** Open from the start and used in turn, as a gateway keeps them; a request that finds none free waits, and that counts. */
  connections: number;
  /** As they are sent, in turn; a run of `#` becomes a number of its own. */
  requests: string[];
}

interface Phase {
  name: string;
  /** Of each caller's rate. */
  times: number;
  seconds: number;
  /** Ends it after the first second in which all was done that was asked. */
  untilServed?: boolean;
}

export interface LoadPlan {
  port: number;
  callers: Caller[];
  phases: Phase[];
}

interface Answers {
  asked: number;
  /** Answers by status; 0: the connection was lost. */
  statuses: Record<string, number>;
  /** Milliseconds until a 2xx. */
  p50: number;
  p99: number;
  /** 503 that did not say when to come again. */
  withoutRetryAfter: number;
}

/** By phase: all of it, and second by second, each by caller. An answer belongs to when its request was sent. */
export type LoadReport = Record<string, { whole: Record<string, Answers>; seconds: Record<string, Answers>[] }>;

class Tally {
  private asked = 0;
  private done = 0;
  private readonly statuses: Record<string, number> = {};
  private readonly histogram: RecordableHistogram = createHistogram();
  private withoutRetryAfter = 0;

  ask(): void {
    this.asked += 1;
  }

  note(status: number, milliseconds: number, head: string): void {
    this.statuses[status] = (this.statuses[status] ?? 0) + 1;
    if (status >= 200 && status < 300) {
      this.done += 1;
      this.histogram.record(Math.max(1, Math.round(milliseconds * 1000)));
    }
    if (status === 503 && !/\r\nretry-after: [1-9]\d*\r\n/i.test(head)) this.withoutRetryAfter += 1;
  }

  isServed(): boolean {
    return this.done === this.asked;
  }

  toJSON(): Answers {
    const { asked, statuses, histogram, withoutRetryAfter } = this;
    const percentile = (share: number) => (histogram.count > 0 ? histogram.percentile(share) / 1000 : 0);
    return { asked, statuses, p50: percentile(50), p99: percentile(99), withoutRetryAfter };
  }
}

interface Asked {
  at: number;
  tallies: Tally[];
}

let unique = 0;
let unanswered = 0;
const HEAD_ENDS = '\r\n\r\n';

async function startCaller(port: number, { connections, requests }: Caller) {
  const free: Connection[] = [];
  const waiting: Asked[] = [];
  let next = 0;
  let open = 0;

  class Connection {
    private asked: Asked | undefined;
    private text = '';
    readonly socket: Socket = connect({ port, host: '127.0.0.1', noDelay: true });

    constructor() {
      this.socket.setEncoding('latin1');
      this.socket.on('data', (chunk) => this.read(String(chunk)));
      this.socket.on('error', () => undefined);
      this.socket.on('close', () => this.lost());
      open += 1;
    }

    send(asked: Asked, request = requests[next++ % requests.length] ?? ''): void {
      this.asked = asked;
      this.socket.write(
        request.replace(/#+/, (run) => String(unique++).padStart(run.length, '0')),
        'latin1',
      );
    }

    private read(chunk: string): void {
      this.text += chunk;
      const headEnds = this.text.indexOf(HEAD_ENDS);
      if (headEnds < 0) return;
      const head = this.text.slice(0, headEnds + 2);
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? 0);
      if (this.text.length < headEnds + HEAD_ENDS.length + length) return;
      this.text = '';
      this.done(Number(head.slice(9, 12)), head);
      const first = waiting.shift();
      if (first) this.send(first);
      else free.push(this);
    }

    private done(status: number, head = ''): void {
      if (!this.asked) return;
      const { at, tallies } = this.asked;
      this.asked = undefined;
      unanswered -= 1;
      for (const tally of tallies) tally.note(status, performance.now() - at, head);
    }

    private lost(): void {
      open -= 1;
      const place = free.indexOf(this);
      if (place >= 0) free.splice(place, 1);
      else this.done(0);
    }
  }

  // One after the other: the server takes one in each turn of its event loop, and closes one that asks nothing.
  while (open < connections) {
    const connection = new Connection();
    unanswered += 1;
    connection.send({ at: 0, tallies: [] }, 'GET /livez HTTP/1.1\r\nhost: x\r\n\r\n');
    await once(connection.socket, 'data');
  }
  return {
    ask(tallies: Tally[]): void {
      const asked = { at: performance.now(), tallies };
      unanswered += 1;
      for (const tally of tallies) tally.ask();
      const connection = free.shift() ?? (open < connections ? new Connection() : undefined);
      if (connection) connection.send(asked);
      else waiting.push(asked);
    },
  };
}

/** Milliseconds that answers to what was asked last are waited for, and between two looks whether they have come. */
const PATIENCE = { atMost: 15_000, look: 20 };

async function run({ port, callers, phases }: LoadPlan) {
  const started: (Caller & Awaited<ReturnType<typeof startCaller>> & { owed: number })[] = [];
  for (const caller of callers) started.push({ ...(await startCaller(port, caller)), ...caller, owed: 0 });
  const tallies = () => callers.map(() => new Tally());
  const named = (each: Tally[]) => Object.fromEntries(callers.map(({ name }, index) => [name, each[index]]));

  function askAll(milliseconds: number, ...counted: Tally[][]): void {
    for (const [index, caller] of started.entries()) {
      caller.owed += (milliseconds / 1000) * caller.perSecond;
      for (; caller.owed >= 1; caller.owed -= 1) caller.ask(counted.flatMap((each) => each[index] ?? []));
    }
  }

  async function runPhase({ times, seconds, untilServed = false }: Phase) {
    const whole = tallies();
    const bySecond: Tally[][] = [];
    const began = performance.now();
    let before = began;
    for await (const _ of setInterval(1)) {
      const now = performance.now();
      if (now - began >= bySecond.length * 1000) {
        const served = untilServed && bySecond.at(-2)?.every((tally) => tally.isServed());
        if (served || now - began >= seconds * 1000) break;
        bySecond.push(tallies());
      }
      askAll((now - before) * times, whole, bySecond.at(-1) ?? []);
      before = now;
    }
    return { whole: named(whole), seconds: bySecond.map(named) };
  }

  const report: Record<string, unknown> = {};
  for (const phase of phases) report[phase.name] = await runPhase(phase);
  const asked = performance.now();
  while (unanswered > 0 && performance.now() - asked < PATIENCE.atMost) await setTimeout(PATIENCE.look);
  return report;
}

process.stdout.write(JSON.stringify(await run(JSON.parse(await text(process.stdin)) as LoadPlan)));
process.exit(0);
