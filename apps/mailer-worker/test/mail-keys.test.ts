import { createHash } from 'node:crypto';
import { keysOf } from '@latchkey/dev-stack/test-redis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHarness, dump, type Harness, keyIn } from './harness.ts';

const HOUR = 60 * 60 * 1000;

let harness: Harness;
beforeAll(async () => {
  harness = await createHarness({ env: { ACTIVATION_KEY_TTL: '60', ACTIVATION_RENEWAL_TTL: '600' } });
});
afterAll(() => harness.close());

const redisKeyOf = (key: string) => harness.keys.activationKey(createHash('sha256').update(key).digest('base64url'));

describe('the key of a link', () => {
  it('is made when the mail is sent, so a job that waited for hours mails a key with its full life', async () => {
    const { id, to, payload } = await harness.add('activation', {}, { timestamp: Date.now() - 5 * HOUR });
    expect(await dump(harness)).not.toContain('activation-key');
    await harness.start();

    const mail = await harness.catcher.waitFor(to);
    const redisKey = redisKeyOf(keyIn(mail.text));
    expect(JSON.parse((await harness.redis.get(redisKey)) ?? 'null')).toEqual({
      user_id: payload.user_id,
      attempt: 3,
      renewal_ms: 600_000,
    });
    const left = await harness.redis.pttl(redisKey);
    expect(left).toBeGreaterThan(660_000 - 10_000);
    expect(left).toBeLessThanOrEqual(660_000);
    await harness.settled(id);
  });

  it('has its full life when the data of its mail begins, however long the mail server took until then', async () => {
    const minted = () => keysOf(harness.redis, `${harness.namespace}:activation-key:*`);
    const before = await minted();
    let shortened: Promise<unknown> | undefined;
    // As if nearly all of its life had passed.
    const shorten = async () => {
      const [mine = ''] = (await minted()).filter((key) => !before.includes(key));
      expect(await harness.redis.pexpire(mine, 5000)).toBe(1);
    };
    harness.hooks.delay = (phase) => {
      if (phase !== 'rcpt') return 0;
      shortened = shorten();
      return 500;
    };
    const { id, to } = await harness.add('activation');
    const { text } = await harness.catcher.waitFor(to);
    harness.hooks.delay = undefined;
    await shortened;
    expect(await harness.redis.pttl(redisKeyOf(keyIn(text)))).toBeGreaterThan(660_000 - 10_000);
    await harness.settled(id);
  });

  it('is 32 base62 characters, and another one for each mail', async () => {
    const added = await Promise.all(Array.from({ length: 20 }, () => harness.add('activation')));
    const mails = await Promise.all(added.map(({ to }) => harness.catcher.waitFor(to)));
    const keys = mails.map((mail) => keyIn(mail.text));
    for (const key of keys) expect(key).toMatch(/^[A-Za-z0-9]{32}$/);
    expect(new Set(keys).size).toBe(20);
    // 640 draws from 62 characters: the chance that fewer than 50 different ones turn up is below 1 in 10^18.
    expect(new Set(keys.join('')).size).toBeGreaterThan(50);
  });

  it.each([
    ['activation', 'activate', 'activation-key'],
    ['password_reset', 'reset-password', 'password-reset-key'],
    ['email_change', 'change-email', 'email-change-key'],
  ])(
    'of %s is found under its own purpose and no other, and stands for the attempt of the job',
    async (name, path, family) => {
      const { to, payload } = await harness.add(name, { attempt: 7 });
      const { text } = await harness.catcher.waitFor(to);
      expect(text).toContain(`https://auth.latchkey.test/${path}/`);
      const sha256 = createHash('sha256').update(keyIn(text)).digest('base64url');
      const found = await keysOf(harness.redis, `${harness.namespace}:*{${sha256}}`);
      expect(found).toEqual([`${harness.namespace}:${family}:{${sha256}}`]);
      expect(JSON.parse((await harness.redis.get(String(found))) ?? 'null')).toEqual({
        user_id: payload.user_id,
        attempt: 7,
        renewal_ms: 600_000,
      });
    },
  );

  it('stands in no key, value, job or log line: Redis holds its SHA-256 and nothing more', async () => {
    const refusals = ['451 4.7.1', '550 5.7.1'];
    // Filters like to quote the link they refuse; here it is the link of an earlier, accepted mail, which is live.
    const accepted = await harness.add('activation');
    const live = keyIn((await harness.catcher.waitFor(accepted.to)).text);
    await harness.settled(accepted.id);
    harness.hooks.reject = (phase) => {
      const refusal = phase === 'data' ? refusals.shift() : undefined;
      return refusal === undefined
        ? undefined
        : {
            code: Number(refusal.slice(0, 3)),
            message: `${refusal.slice(4)} bad URL https://auth.latchkey.test/activate/${live} or ${live}`,
          };
    };
    const refused = await harness.add('activation');
    const job = await harness.failed(refused.id);
    harness.hooks.reject = undefined;

    expect(job.failedReason).toContain('550 5.7.1 bad URL [link] or [cut]');
    const everything = await dump(harness);
    expect(everything).toContain(redisKeyOf(live));
    expect(everything).toContain('bad URL');
    for (const place of [everything, harness.logLines.join('\n')]) {
      expect(place).not.toContain(live);
      expect(place).not.toContain('/activate/');
    }
    expect(harness.logLines.join('\n')).not.toContain(refused.to);
  });

  it('of a refused try is removed again, so that only a mailed key opens anything', async () => {
    let refusals = 2;
    harness.hooks.reject = (phase) =>
      phase === 'rcpt' && refusals-- > 0 ? { code: 451, message: 'greylisted' } : undefined;
    const { id, to, payload } = await harness.add('activation');
    const mail = await harness.catcher.waitFor(to);
    await harness.settled(id);
    harness.hooks.reject = undefined;

    const stored = await keysOf(harness.redis, `${harness.namespace}:activation-key:*`);
    const values = await Promise.all(stored.map((key) => harness.redis.get(key)));
    const mine = stored.filter((_, index) => values[index]?.includes(String(payload.user_id)));
    expect(mine).toEqual([redisKeyOf(keyIn(mail.text))]);
  });
});
