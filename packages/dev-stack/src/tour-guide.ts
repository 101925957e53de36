/** How the tour takes one step: call, print, compare. */
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { StackFailure } from './stack-failure.ts';

export type TourStep = {
  readonly title: string;
  readonly call: readonly [method: string, path: string, body?: object | undefined, accessToken?: string];
  readonly expect: {
    readonly status: number;
    /** The answer must hold at least this. */
    readonly body?: object;
    readonly headers?: Readonly<Record<string, string>>;
  };
};

export type TourAnswer = { readonly status: number; readonly headers: Headers; readonly body: unknown };

/** A mail normally arrives in well under 1 s. */
const MAIL_PATIENCE_MS = 20_000;
const CALL_PATIENCE_MS = 10_000;
/** Members whose value is a credential. */
const SECRET_MEMBERS: ReadonlySet<string> = new Set(['password', 'access_token', 'refresh_token']);

export class TourGuide {
  readonly #api: string;
  readonly #inbox: string;
  readonly #write: (text: string) => void;
  steps = 0;

  constructor(api: string, inbox: string, write: (text: string) => void) {
    this.#api = api.replace(/\/$/, '');
    this.#inbox = inbox;
    this.#write = write;
  }

  /** @throws StackFailure telling how to start what is missing. */
  async checkThatItRuns(): Promise<void> {
    await this.#reach(`${this.#api}/livez`, 'API', 'API_PORT or PUBLIC_URL');
    await this.#reach(`${this.#inbox}/api/mails?to=nobody`, 'mail inbox', 'INBOX_PORT');
    this.#write(`The API at ${this.#api}, the inbox at ${this.#inbox}\n`);
  }

  /** @throws StackFailure when the answer is not the right one. */
  async step({ title, call, expect }: TourStep): Promise<TourAnswer> {
    const [method, path, body, accessToken] = call;
    this.#announce(title);
    const shownToken = accessToken === undefined ? '' : `  Bearer ${shortened(accessToken)}`;
    this.#write(`   ${method} ${shownPath(path)}${body === undefined ? '' : `  ${shown(body)}`}${shownToken}\n`);
    const response = await fetch(`${this.#api}${path}`, {
      method,
      redirect: 'manual',
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(accessToken === undefined ? {} : { authorization: `Bearer ${accessToken}` }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(CALL_PATIENCE_MS),
    });
    const answer: TourAnswer = { status: response.status, headers: response.headers, body: await bodyOf(response) };
    const said = Object.keys(expect.headers ?? {}).map((name) => `${name}: ${answer.headers.get(name) ?? '(missing)'}`);
    this.#write(`   → ${[answer.status, ...said, shown(answer.body)].join('  ')}\n`);
    assertAsExpected(answer, expect);
    return answer;
  }

  /** Waits for the activation mail to an address and takes the key from its link. */
  async activationKeyFromMail(email: string): Promise<string> {
    this.#announce('Read the mail');
    const deadline = Date.now() + MAIL_PATIENCE_MS;
    while (Date.now() < deadline) {
      const response = await fetch(`${this.#inbox}/api/mails?to=${encodeURIComponent(email)}`);
      const { mails } = (await response.json()) as { mails: { subject: string; text: string }[] };
      const mail = mails.at(-1);
      if (mail !== undefined) {
        const key = /\/activate\/([0-9A-Za-z]{32})\b/.exec(mail.text)?.[1];
        if (key === undefined) {
          throw new StackFailure(`Wrong: the mail "${mail.subject}" holds no activation link.`);
        }
        this.#write(`   "${mail.subject}" with the key ${shortened(key)}\n`);
        return key;
      }
      await delay(50);
    }
    throw new StackFailure(`Wrong: no mail to ${email} within ${MAIL_PATIENCE_MS / 1000} s.`);
  }

  #announce(title: string): void {
    this.steps += 1;
    this.#write(`\n${String(this.steps).padStart(2)} ${title}\n`);
  }

  async #reach(url: string, what: string, variable: string): Promise<void> {
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(CALL_PATIENCE_MS) });
      await response.arrayBuffer();
      if (response.ok) {
        return;
      }
    } catch {
      // Said below.
    }
    throw new StackFailure(
      `The ${what} does not answer at ${new URL(url).origin}. Start the set with "npm start" in another terminal; if it listens elsewhere, set ${variable}.`,
    );
  }
}

function assertAsExpected(answer: TourAnswer, expected: TourStep['expect']): void {
  const wrong: string[] = [];
  if (answer.status !== expected.status) {
    wrong.push(`status ${expected.status} was expected, not ${answer.status}`);
  }
  for (const [name, value] of Object.entries(expected.headers ?? {})) {
    if (answer.headers.get(name) !== value) {
      wrong.push(`${name}: ${value} was expected`);
    }
  }
  if (expected.body !== undefined && !holds(answer.body, expected.body)) {
    wrong.push(`a body with ${JSON.stringify(expected.body)} was expected`);
  }
  if (wrong.length === 0) {
    return;
  }
  const wait = answer.status === 429 ? ` Rate limited: try again in ${answer.headers.get('retry-after')} s.` : '';
  throw new StackFailure(`Wrong: ${wrong.join('; ')}.${wait}`);
}

/** Whether every member of `part` is in `whole`, at any depth. */
function holds(whole: unknown, part: unknown): boolean {
  if (typeof part !== 'object' || part === null) {
    return isDeepStrictEqual(whole, part);
  }
  return (
    typeof whole === 'object' &&
    whole !== null &&
    Object.entries(part).every(([name, value]) => holds(Reflect.get(whole, name), value))
  );
}

async function bodyOf(response: Response): Promise<unknown> {
  const text = await response.text();
  const isJson = /^application\/(.*\+)?json\b/.test(response.headers.get('content-type') ?? '');
  return isJson && text !== '' ? (JSON.parse(text) as unknown) : text;
}

function shown(body: unknown): string {
  if (typeof body === 'string') {
    return body === '' ? '' : `(${body.length} characters of HTML)`;
  }
  return JSON.stringify(body, (name, value: unknown) =>
    SECRET_MEMBERS.has(name) && typeof value === 'string' ? shortened(value) : value,
  );
}

function shownPath(path: string): string {
  return path.replace(/[0-9A-Za-z]{32}/, shortened);
}

function shortened(secret: string): string {
  return `${secret.slice(0, 6)}…`;
}
