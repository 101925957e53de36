/**
 * The revocations as `GET /v1/revocations` tells them: server-sent events, resumed where they broke off.
 *
 * What the events say (each a JSON value):
 *   start     {epoch: {id, born}, resumed}: which Redis it is. Unless resumed, everything follows, and until `complete` no `alive` counts
 *   revoked   lines of the log, several at once; their `id` is the place to resume from
 *   complete  all that was known at the start has been said
 *   alive     {at}: milliseconds since the request began at which the issuer's own copy was surely up to date
 *
 * `at` is counted by the server from when it began to answer, which was after this side began to ask. So "when I asked, plus `at`" is an
 * instant of this side's clocks up to which everything is known, however long an event was under way.
 */
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { type ClientCredentials, createClientToken } from './client-token.ts';
import { earlier, type Instant, later, NEVER, now, since } from './instant.ts';
import { assertNumbers, LONGEST_SILENCE } from './numbers.ts';
import { createClockWatch, createReport } from './report.ts';
import { createRevoked, type Epoch, type RevocationSource, readLine } from './revoked.ts';

/** Milliseconds, as REVOCATION_LAG_MAX_MS. */
const LAG_MAX = 2000;
/** Milliseconds between two tries: doubled each time, from the first to the last, each a little different on every verifier. */
const RETRY = { first: 50, last: 1000 };
/** An event that is longer than this is not this issuer's. */
const LARGEST_EVENT = 4 * 1024 * 1024;

export interface RevocationFeedOptions {
  /** `<issuer>/v1/revocations`. */
  url: string | URL;
  /**
   * A client with scope `revocations:read`, which gets its tokens at `tokenUrl` (default: `<issuer>/oauth/token`); or whatever gives a token for
   * it, asked before each connection, which has `lagMax` until it is given up and asked again.
   */
  auth:
    | { client: ClientCredentials; tokenUrl?: string | URL }
    | { token: (signal: AbortSignal) => string | Promise<string> };
  /** Milliseconds of silence after which nothing is believed (default 2000). */
  lagMax?: number;
  /** Hears why a connection ended or could not be made; it is made again. */
  onError?: (error: Error) => void;
}

/** Starts to follow the feed; returns at once. @throws RangeError for a `lagMax` that is no number. */
export function revocationFeed({
  url,
  auth,
  lagMax = LAG_MAX,
  onError = () => undefined,
}: RevocationFeedOptions): RevocationSource {
  assertNumbers({ lagMax }, LONGEST_SILENCE);
  const report = createReport(onError);
  const compareClocks = createClockWatch(report);
  const revoked = createRevoked();
  const tokens = tokenSource(url, auth);
  let lastEventId = '';
  /** Up to when everything is known. */
  let heardAt = NEVER;
  /** Of what a connection ended since then. */
  let failure: unknown;
  /** Of this connection: whether anything came, and when; whether it said all that is not known yet; whether a sign of life came after that. */
  let heard = false;
  let cameAt = 0;
  let complete = false;
  let alive = false;
  let closed = false;
  let connection: AbortController | undefined;

  const lag = (): number => since(heardAt);

  const take: Readonly<Record<string, (data: never, asked: Instant, id: string) => void>> = {
    start({ epoch, resumed }: { epoch: Epoch; resumed: boolean }) {
      if (epoch.id !== revoked.epoch()?.id) {
        revoked.begin(epoch);
        // What was heard was said of another Redis.
        heardAt = NEVER;
      }
      // What is known stays known, of this epoch up to when it was.
      complete = resumed;
      if (!resumed) lastEventId = '';
    },
    revoked(lines: readonly Record<string, string | number>[], _asked: Instant, id: string) {
      for (const line of lines) {
        const revocation = readLine(line);
        if (revocation) revoked.apply(revocation);
      }
      // The issuer's Redis said when: its clock stands in the id.
      const written = Number(/\/(\d+)-/.exec(id)?.[1] ?? 0) / 1000;
      revoked.sweep(written, lines.length);
    },
    complete() {
      complete = true;
    },
    alive({ at }: { at: number }, asked: Instant) {
      if (!complete) return;
      alive = true;
      failure = undefined;
      heardAt = earlier(later(asked, at), now());
    },
  };

  function hear({ event = '', data, id }: EventSourceMessage, asked: Instant): void {
    // A newer issuer may say more.
    if (Object.hasOwn(take, event)) take[event]?.(JSON.parse(data) as never, asked, id ?? '');
    // Not before: what could not be taken has to be told again.
    if (id !== undefined) lastEventId = id;
  }

  /** One connection, to its end. */
  async function connect(controller: AbortController): Promise<void> {
    const { signal } = controller;
    const token = await tokens.get(signal);
    const asked = now();
    const response = await fetch(url, {
      headers: {
        accept: 'text/event-stream',
        authorization: `Bearer ${token}`,
        ...(lastEventId !== '' && { 'last-event-id': lastEventId }),
      },
      redirect: 'error',
      signal,
    });
    if (response.status === 401) tokens.refused();
    if (!response.ok || !response.body) throw new Error(`${url} answers ${response.status}`);
    compareClocks(Date.parse(response.headers.get('date') ?? ''));
    const parser = createParser({
      maxBufferSize: LARGEST_EVENT,
      onEvent: (event) => hear(event, asked),
      onError: (error) => controller.abort(error),
    });
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      heard = true;
      cameAt = performance.now();
      parser.feed(text);
    }
  }

  /** Ends a connection on which nothing comes, or on which what comes has been under way for too long. */
  function watch(controller: AbortController): NodeJS.Timeout {
    const began = performance.now();
    cameAt = began;
    heard = complete = alive = false;
    return setInterval(() => {
      const at = performance.now();
      if (at - cameAt > lagMax || (alive && at - began > lagMax && lag() > lagMax))
        controller.abort(new Error(`nothing was heard for ${lagMax} ms`));
    }, lagMax / 4);
  }

  /** One connection, however it ends. @returns whether anything was heard. */
  async function tryOnce(): Promise<boolean> {
    const controller = new AbortController();
    connection = controller;
    const watching = watch(controller);
    try {
      await connect(controller);
    } catch (error) {
      failure = error;
      if (!closed) report(error);
    } finally {
      clearInterval(watching);
      controller.abort();
    }
    return heard;
  }

  async function follow(): Promise<void> {
    let pause = RETRY.first;
    while (!closed) {
      pause = (await tryOnce()) ? RETRY.first : Math.min(pause * 2, RETRY.last);
      if (!closed) await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random())));
    }
  }
  void follow();

  return {
    lag,
    fresh: () => lag() <= lagMax,
    denies: revoked.denies,
    changes: revoked.changes,
    failure: () => failure,
    epoch: revoked.epoch,
    size: revoked.size,
    close() {
      closed = true;
      connection?.abort();
    },
  };
}

function tokenSource(url: string | URL, auth: RevocationFeedOptions['auth']) {
  if ('token' in auth)
    return {
      get: (signal: AbortSignal) => Promise.race([auth.token(signal), untilAborted(signal)]),
      refused: () => undefined,
    };
  const { client, tokenUrl = new URL('../oauth/token', url) } = auth;
  return createClientToken({ url: tokenUrl, client, scope: 'revocations:read' });
}

const untilAborted = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
