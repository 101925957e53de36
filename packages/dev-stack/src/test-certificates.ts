/** Certificates for servers of a test that speak TLS. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

/** Makes a CA and a certificate of it for 127.0.0.1, good for a day. @returns the files, each in PEM. @throws {Error} without `openssl`. */
export function testCertificates(folder: string): { ca: string; certificate: string; key: string } {
  const file = (name: string) => join(folder, name);
  const request = (name: string, subject: string, ...more: string[]) =>
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'],
        ...['-subj', subject, '-keyout', file(`${name}.key`), '-out', file(`${name}.pem`), ...more],
      ],
      { stdio: 'pipe' },
    );
  request('ca', '/CN=A CA of this test');
  const signedBy = ['-CA', file('ca.pem'), '-CAkey', file('ca.key')];
  request('server', '/CN=server', ...signedBy, '-addext', 'subjectAltName=IP:127.0.0.1');
  return { ca: file('ca.pem'), certificate: file('server.pem'), key: file('server.key') };
}
