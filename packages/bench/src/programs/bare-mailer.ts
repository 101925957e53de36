/** The baseline of mail: nodemailer's pool and nothing around it. Arguments: the port of its HTTP side, the sink's SMTP port, connections. */
import { createTransport } from 'nodemailer';
import { listen, numberArgument } from './control.ts';

const connections = numberArgument(3);
const transport = createTransport({
  host: '127.0.0.1',
  port: numberArgument(2),
  pool: true,
  maxConnections: connections,
  maxMessages: Number.POSITIVE_INFINITY,
});

// As long as Latchkey's activation mail: mail.ts does not compare mails of different size.
const text = `${'Somebody, hopefully you, registered this address. '.repeat(10)}\n`;
const html = `<!doctype html>\n<html lang="en">\n<body>\n${`<p style="margin:0 0 16px">${text.slice(0, 250)}</p>\n`.repeat(12)}</body>\n</html>\n`;

async function send(n: number): Promise<void> {
  await transport.sendMail({
    from: 'Latchkey <no-reply@example.test>',
    to: { name: '', address: `bare-${n}@example.test` },
    subject: 'Activate your account',
    text,
    html,
    headers: { 'Auto-Submitted': 'auto-generated' },
  });
}

await listen((app) => {
  app.get<{ Querystring: { count: string } }>('/send', async ({ query }) => {
    let left = Number(query.count);
    const sender = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        await send(left);
      }
    };
    // One mail under way per connection and one waiting for it, so that no connection ever waits for us.
    await Promise.all(Array.from({ length: connections * 2 }, sender));
    return { sent: Number(query.count) };
  });
});
