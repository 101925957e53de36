/**
 * Who goes first when more comes than can be done at once, and who is told to come again. Decided before any work, at the door between
 * Node's server and Fastify, because saying no must cost next to nothing (ADR 25).
 *
 * One thread does everything, turn by turn of the event loop, and what arrives during a turn waits for its end. So a turn begins only a few
 * milliseconds of work; the rest queues here, tokens first, passwords last. What verifies, and what takes access away, never waits. (A token
 * that was verified before does not even come here: plugins/quick-verify.ts.) A request that would wait too long is refused at once.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import { createCoDel } from './codel.ts';
import type { Metrics } from './metrics.ts';
import { answerAtOnce } from './plugins/problem-answers.ts';
import { Problem } from './problems.ts';

/**
 * In order of service. `takes`: milliseconds of the thread that a request costs, in its turn and in later ones. `most`: how many may be queued or
 * under way, which bounds every queue behind the door, however slow a store is: a core works off a thousand refreshes in a quarter of a second.
 * Listeners are bounded by the round through them: 0.2 s for 5000 (docs/capacity.md).
 */
const CLASSES = {
  /** What verifies, and what takes access away: equally urgent. */
  vital: { takes: 0, most: 1000 },
  /** As urgent. Callers may identify themselves in the body, and bodies that never come must not take the places above. */
  revocation: { takes: 0, most: 1000 },
  feed: { takes: 0, most: 5000 },
  tokens: { takes: 0.25, most: 1000 },
  rest: { takes: 1, most: 1000 },
  /** The same for browsers: refused by a page. */
  pages: { takes: 1, most: 1000 },
  passwords: { takes: 2, most: 1000 },
};
export type RequestClass = keyof typeof CLASSES;
const names = Object.keys(CLASSES) as RequestClass[];
const byClass = <T>(make: () => T) =>
  Object.fromEntries(names.map((name) => [name, make()])) as Record<RequestClass, T>;

/** Milliseconds a turn of the event loop may take before it counts as slow, and milliseconds of work begun in one at most. */
const TURN = { takes: 4, begins: 3 };
/**
 * AIMD, like TCP's window (RFC 5681): a slow turn shrinks the room to `down` times what it was, any other adds `up` milliseconds. It never falls
 * below `least` of the turn just measured, or one slow turn would stop everything.
 */
const FOLLOW = { down: 0.7, up: 0.2, least: 0.1 };

/** @returns the milliseconds of work the next turn may begin, after one that had `room` and took `took`. */
export const roomAfter = (room: number, took: number): number =>
  Math.min(TURN.begins, took > TURN.takes ? Math.max(room * FOLLOW.down, took * FOLLOW.least) : room + FOLLOW.up);

/** Milliseconds the head of a queue may have waited (codel.ts): beyond it newcomers are refused, and beyond twice `interval` the head as well. */
const PATIENCE = { interval: 1000, target: 250 };
/** Milliseconds between turns for an `interval` after a queue was late: the stores share the processor, and need it for what was begun. */
const PAUSE = 2;
/** Seconds until a refused caller should come again, at least and at most; drawn, so that not all come at once. */
const COME_AGAIN = { soonest: 1, latest: 4 };
const comeAgain = (): number =>
  COME_AGAIN.soonest + Math.floor(Math.random() * (COME_AGAIN.latest - COME_AGAIN.soonest + 1));
/** Made once: an error that remembers where it was made costs more than the rest of an answer. */
const OVERLOADED = new Problem('overloaded');
/** Milliseconds between two lines of the log that say what was refused. */
const TELL_EVERY = 5000;

/** By method and path, the first that matches. Checks and metrics decide whether this instance is stopped: never refused. */
const KINDS: readonly [RequestClass | undefined, RegExp][] = [
  ['vital', /^(?:[A-Z]+ \/v1\/(?:verify|admin)(?:\/.*)?|GET \/\.well-known\/.*|DELETE \/v1\/sessions(?:\/.*)?)$/],
  ['revocation', /^POST \/oauth\/revoke$/],
  ['tokens', /^POST \/(?:v1\/tokens\/refresh|oauth\/(?:introspect|token))$/],
  // What hashes a password, or has a mail sent.
  [
    'passwords',
    /^(?:POST \/v1\/(?:tokens|users|activations(?:\/[^/]+\/renewal)?|password-resets(?:\/[^/]+)?)|PUT \/v1\/me\/(?:password|email)|DELETE \/v1\/me)$/,
  ],
  ['pages', /^[A-Z]+ \/(?:activate|reset-password|change-email)\//],
  ['feed', /^GET \/v1\/revocations$/],
  [undefined, /^(?:GET|HEAD) \/(?:livez|readyz|metrics)$/],
  ['rest', /^/],
];

/**
 * Paths that need no decoding. Except in what is appended to these two, ours contain no `%`; as an encoded path could hide a login, it is
 * classed with passwords.
 */
const PLAIN = /^\/(?:[^%#]*|v1\/(?:verify|admin)\/[^#]*)$/;

/** @returns undefined: never refused. */
export function classOf({ method = '', url = '' }: Pick<IncomingMessage, 'method' | 'url'>): RequestClass | undefined {
  const query = url.indexOf('?');
  const path = query < 0 ? url : url.slice(0, query);
  if (!PLAIN.test(path)) return 'passwords';
  return KINDS.find(([, pattern]) => pattern.test(`${method} ${path}`))?.[0];
}

export type Admission = ReturnType<typeof createAdmission>;

interface Entering {
  /** When it came, in milliseconds. */
  since: number;
  request: IncomingMessage;
  response: ServerResponse;
  go: () => void;
}

export interface AdmissionOptions {
  metrics: Metrics;
  logger: Logger;
  /** Whether so many passwords wait that no more should be let in. */
  passwordsFull: () => boolean;
}

export function createAdmission({ metrics, logger, passwordsFull }: AdmissionOptions) {
  const underWay = byClass(() => 0);
  const waiting = byClass((): Entering[] => []);
  const isLate = byClass(() => createCoDel(PATIENCE));
  /** Milliseconds of work begun in this turn. */
  let begun = 0;
  /** As many may be begun. */
  let room: number = TURN.begins;
  let turning = false;
  /** When a queue was last found late, in milliseconds. */
  let lateAt = Number.NEGATIVE_INFINITY;
  /** When the next turn was asked for, in milliseconds. From then on the event loop does not idle. */
  let askedAt = 0;
  /** Since the last line of the log about it. */
  let refused = byClass(() => 0);
  let telling: NodeJS.Timeout | undefined;
  /** Those that a route answers with its own refusal. */
  const refusedInside = new WeakSet<IncomingMessage>();
  for (const name of names) metrics.refused.inc({ class: name }, 0);

  function tell(): void {
    telling = undefined;
    logger.warn({ refused }, 'overloaded: requests were refused');
    refused = byClass(() => 0);
  }

  function refuse(name: RequestClass, { request, response, go }: Entering): void {
    metrics.refused.inc({ class: name });
    refused[name] += 1;
    telling ??= setTimeout(tell, TELL_EVERY).unref();
    if (name === 'pages') {
      refusedInside.add(request);
      go();
    } else answerAtOnce(OVERLOADED, request, response, ['retry-after', String(comeAgain())]);
  }

  function begin(name: RequestClass, { response, go }: Entering): void {
    // Its client has left meanwhile.
    if (response.destroyed) return;
    begun += CLASSES[name].takes;
    go();
  }

  /** Oldest first: refuses what has waited too long, and begins the rest while the turn has room. */
  function serve(name: RequestClass, now: number): void {
    const queue = waiting[name];
    for (let [first] = queue; first !== undefined; [first] = queue) {
      const late = now - first.since > 2 * PATIENCE.interval;
      if (!late && begun >= room) return;
      queue.shift();
      if (late) refuse(name, first);
      else begin(name, first);
    }
  }

  function turn(): void {
    turning = false;
    begun = 0;
    const now = performance.now();
    room = roomAfter(room, now - askedAt);
    for (const name of names) serve(name, now);
    if (waits() === 0) return;
    if (now - lateAt > PATIENCE.interval) takeTurn();
    else {
      turning = true;
      setTimeout(askForTurn, PAUSE);
    }
  }

  function askForTurn(): void {
    askedAt = performance.now();
    setImmediate(turn);
  }

  function takeTurn(): void {
    if (turning) return;
    turning = true;
    askForTurn();
  }

  const waits = (): number => names.reduce((sum, name) => sum + waiting[name].length, 0);
  metrics.gauge('latchkey_waiting_requests', 'Requests that wait for a turn', waits);

  return {
    /** Lets a request in, now or when its turn has come, or answers it with 503. */
    admit(request: IncomingMessage, response: ServerResponse, go: () => void): void {
      const name = classOf(request);
      if (name === undefined) {
        go();
        return;
      }
      const since = performance.now();
      const entering = { since, request, response, go };
      const { takes, most } = CLASSES[name];
      const late = isLate[name](waiting[name][0]?.since, since);
      if (late) lateAt = since;
      if (late || underWay[name] >= most || (name === 'passwords' && passwordsFull())) {
        refuse(name, entering);
        return;
      }
      underWay[name] += 1;
      response.once('close', () => {
        underWay[name] -= 1;
      });
      // As long as a turn has room, nobody waits.
      if (takes === 0 || begun < room) begin(name, entering);
      else waiting[name].push(entering);
      if (takes > 0) takeTurn();
    },

    /** For routes that refuse with a page. @throws {Problem} `overloaded` */
    assertAdmitted(request: IncomingMessage): void {
      if (refusedInside.has(request)) throw new Problem('overloaded', { retryAfter: comeAgain() });
    },

    stop(): void {
      if (telling === undefined) return;
      clearTimeout(telling);
      tell();
    },
  };
}
