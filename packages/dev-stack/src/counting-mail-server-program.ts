/** A mail server that takes everything and appends each mail, as a line of JSON, to a file before it says 250. Arguments: port, file. */
import { openSync, writeSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { SMTPServer } from 'smtp-server';

const file = openSync(process.argv[3] ?? '', 'a');
const server = new SMTPServer({
  disabledCommands: ['STARTTLS', 'AUTH'],
  // Command by command: a crash can fall between any two.
  hidePIPELINING: true,
  disableReverseLookup: true,
  logger: false,
  onData(stream, session, callback) {
    buffer(stream).then((raw) => {
      const to = session.envelope.rcptTo.map(({ address }) => address).join();
      writeSync(file, `${JSON.stringify({ to, raw: raw.toString() })}\n`);
      callback();
    }, callback);
  },
});
server.on('error', () => undefined);
server.listen(Number(process.argv[2]), '127.0.0.1');
