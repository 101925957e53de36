import { generateKeyPairSync } from 'node:crypto';
import { dkimVerify } from 'mailauth/lib/dkim/verify.js';
import { expect, onTestFinished, test } from 'vitest';
import { createHarness } from './harness.ts';

test('a mail is signed with the configured key, and a change to it breaks the signature', async () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const harness = await createHarness({
    env: {
      DKIM_DOMAIN: 'latchkey.test',
      DKIM_SELECTOR: 'one',
      // As a line of an environment file has it.
      DKIM_PRIVATE_KEY: privateKey.replaceAll('\n', '\\n'),
    },
  });
  onTestFinished(() => harness.close());
  await harness.start();
  const { to } = await harness.add('activation', { locale: 'de' });
  const { raw } = await harness.catcher.waitFor(to);
  const mail = raw.toString();

  const asked: string[] = [];
  const resolver = async (name: string) => {
    asked.push(name);
    return [[`v=DKIM1; k=rsa; p=${publicKey.toString('base64')}`]];
  };
  const verdictOn = async (text: string) =>
    (await dkimVerify(text, { resolver })).results.map(({ status, signingDomain }) => [signingDomain, status.result]);
  expect(await verdictOn(mail)).toEqual([['latchkey.test', 'pass']]);
  expect(asked).toContain('one._domainkey.latchkey.test');
  const [, signed] = /^DKIM-Signature:.*?\bh=([^;]*)/im.exec(mail.replaceAll(/\r\n[ \t]+/g, '')) ?? [];
  expect(signed?.toLowerCase().split(':')).toEqual(expect.arrayContaining(['from', 'to', 'subject', 'message-id']));
  expect(await verdictOn(mail.replace('Subject: ', 'Subject: not '))).toEqual([['latchkey.test', 'fail']]);
});
