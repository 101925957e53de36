/** A mail server that takes everything and only remembers when and how much. Arguments: the port of its HTTP side, the port of SMTP. */
import { SMTPServer } from 'smtp-server';
import { listen, numberArgument, steadyNow } from './control.ts';

/** When each mail was accepted, by the steady clock, and its length. */
const accepted: { readonly at: number; readonly bytes: number }[] = [];
let onAccepted: (() => void) | undefined;

/** What `/accepted` answers: the instants of the first and the last of the mails asked for, milliseconds of the steady clock, and the mean length. */
export type Accepted = { readonly first: number; readonly last: number; readonly bytes: number };

const smtp = new SMTPServer({
  // Its certificate would be self-signed, and clients that see STARTTLS insist on a valid one.
  disabledCommands: ['STARTTLS', 'AUTH'],
  disableReverseLookup: true,
  logger: false,
  onData(stream, _session, callback) {
    let bytes = 0;
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    stream.once('end', () => {
      accepted.push({ at: steadyNow(), bytes });
      callback();
      onAccepted?.();
    });
  },
});
// A client may cut its connection at any time.
smtp.on('error', () => undefined);
smtp.listen(numberArgument(2), '127.0.0.1');

await listen((app) => {
  app.get('/count', async () => ({ count: accepted.length }));

  /** Answers once mail number `to` (counted from 1) is accepted; `from` is the first one of interest. One caller at a time. */
  app.get<{ Querystring: { from: string; to: string } }>('/accepted', async ({ query }): Promise<Accepted> => {
    const to = Number(query.to);
    while (accepted.length < to) {
      await new Promise<void>((resolve) => {
        onAccepted = resolve;
      });
    }
    onAccepted = undefined;
    const asked = accepted.slice(Number(query.from) - 1, to);
    return {
      first: asked[0]?.at ?? Number.NaN,
      last: asked.at(-1)?.at ?? Number.NaN,
      bytes: asked.reduce((sum, { bytes }) => sum + bytes, 0) / asked.length,
    };
  });
});
