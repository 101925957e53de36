import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { inheritedEnvironment } from './environment.ts';
import { onFreePort } from './ports.ts';
import { temporaryFolder } from './processes.ts';
import { ServerProcess } from './server-process.ts';
import { programOnPath } from './system-programs.ts';
import { testCertificates } from './test-certificates.ts';

export type RunningPostfix = {
  readonly port: number;
  /** PEM: the certificate of the CA its own is of. */
  readonly ca: string;
  stop(): Promise<void>;
};

type PostfixOptions = {
  /** The port of the mail server on 127.0.0.1 that gets every mail from it. */
  readonly relayTo: number;
  readonly user: string;
  readonly password: string;
  /** Asked of each recipient: whether Postfix is to say 450 this time. */
  readonly greylists: (recipient: string) => boolean;
};

const path = `${inheritedEnvironment().PATH ?? ''}:/usr/sbin`;

/** Whether it can run here: its master process has to be root, and its certificate is made by openssl. */
export const canRunPostfix = (): boolean =>
  ['postfix', 'openssl'].every((name) => programOnPath(name, path) !== undefined) && process.getuid?.() === 0;

/** Its services, master(5): what takes mail by SMTP and hands it on by SMTP, none in a chroot, none on a socket of the system's. */
const SERVICES = `
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`;

/**
 * Postfix as a relay that wants STARTTLS and a login, with folders of its own beside the system's. It asks this process what others ask
 * Dovecot (who may log in, by its protocol) and a greylisting daemon (what to put off, by Postfix's policy protocol).
 *
 * @throws {Error} where it {@link canRunPostfix can't run}.
 */
export async function startPostfix({ relayTo, user, password, greylists }: PostfixOptions): Promise<RunningPostfix> {
  const folder = temporaryFolder('postfix');
  // Its services have other users than its master.
  chmodSync(folder, 0o755);
  const [conf, queue, data] = ['conf', 'queue', 'data'].map((name) => join(folder, name)) as [string, string, string];
  for (const each of [conf, queue, data]) mkdirSync(each, { mode: 0o755 });
  const id = (flag: string): number => Number(execFileSync('id', [flag, 'postfix'], { encoding: 'utf8' }));
  chownSync(data, id('-u'), id('-g'));
  const { certificate, key, ca } = testCertificates(folder);
  const logins = await lineServer((line, say) => answerLogin(line, say, `\0${user}\0${password}`), HANDSHAKE);
  const policy = await lineServer(policyAnswers(greylists));

  const settings = `
compatibility_level = 3.6
queue_directory = ${queue}
data_directory = ${data}
maillog_file = ${join(folder, 'maillog')}
maillog_file_prefixes = ${folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = relay.latchkey.test
mydestination =
mynetworks =
relayhost = [127.0.0.1]:${relayTo}
alias_maps =
local_recipient_maps =
smtpd_tls_cert_file = ${certificate}
smtpd_tls_key_file = ${key}
smtpd_tls_security_level = encrypt
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:${logins.port}
smtpd_tls_auth_only = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:${policy.port}, permit_sasl_authenticated, reject
smtp_tls_security_level = none
`;
  writeFileSync(join(conf, 'main.cf'), settings);
  const { port, server } = await onFreePort(undefined, async (candidate) => {
    writeFileSync(join(conf, 'master.cf'), `127.0.0.1:${candidate} inet n - n - - smtpd${SERVICES}`);
    const started = new ServerProcess({
      name: 'Postfix',
      port: candidate,
      program: {
        command: programOnPath('postfix', path) ?? 'postfix',
        args: ['-c', conf, 'start-fg'],
        env: { PATH: path, LC_ALL: 'C' },
        endSignal: 'SIGTERM',
      },
      logFile: join(folder, 'output'),
      answers: () => greets(candidate),
    });
    await started.start();
    return { port: candidate, server: started };
  });
  return {
    port,
    ca: readFileSync(ca, 'utf8'),
    async stop() {
      // Its master leads a process group of its own, which no signal to ours reaches.
      execFileSync(programOnPath('postfix', path) ?? 'postfix', ['-c', conf, 'abort'], { stdio: 'ignore' });
      await server.end();
      logins.close();
      policy.close();
    },
  };
}

type Answerer = (line: string, say: (words: string) => void) => void;

/** Dovecot's authentication protocol 1.1, the server's first words. */
const HANDSHAKE =
  'VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00000000000000000000000000000000\nDONE\n';

/** @param login what SASL PLAIN (RFC 4616) has to say. */
function answerLogin(line: string, say: (words: string) => void, login: string): void {
  const [command, request, , ...parameters] = line.split('\t');
  if (command !== 'AUTH') return;
  const response = parameters.find((parameter) => parameter.startsWith('resp='))?.slice('resp='.length) ?? '';
  const good = Buffer.from(response, 'base64').toString() === login;
  say(good ? `OK\t${request}\tuser=${login.split('\0')[1]}\n` : `FAIL\t${request}\n`);
}

/** Postfix's policy protocol (SMTPD_POLICY_README): attributes, a line each, up to an empty line; then an action. */
function policyAnswers(greylists: PostfixOptions['greylists']): Answerer {
  let recipient = '';
  return (line, say) => {
    if (line.startsWith('recipient=')) recipient = line.slice('recipient='.length);
    if (line === '')
      say(`action=${greylists(recipient) ? 'DEFER_IF_PERMIT greylisted, come back later' : 'DUNNO'}\n\n`);
  };
}

/** A server that is asked and answers in lines. */
async function lineServer(answer: Answerer, greeting = '') {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on('error', () => undefined).on('close', () => open.delete(socket));
    socket.write(greeting);
    createInterface({ input: socket }).on('line', (line) => answer(line, (words) => socket.write(words)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

/** Whether the first words of a mail server come from a port. */
function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('data', (words) => end(words.toString().startsWith('220')));
    socket.once('error', () => end(false)).setTimeout(2000, () => end(false));
  });
}
