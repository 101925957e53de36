import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import { revocationFeed } from '../src/feed.ts';

test('an issuer that tells of an epoch from before the one that is known is heard, but gives nothing back', async () => {
  const [ended, known] = [
    { id: 'ended', born: 1000 },
    { id: 'known', born: 2000 },
  ];
  const epochs = [ended, known, ended];
  // A connection for each, ended by the next beat.
  const issuer = createServer((_request, response) => {
    const epoch = epochs.shift();
    response.writeHead(epoch ? 200 : 503, { 'content-type': 'text/event-stream' });
    response.end(
      epoch && `event: start\ndata: ${JSON.stringify({ epoch, resumed: false })}\n\nevent: complete\ndata: {}\n\n`,
    );
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void issuer.close());
  await new Promise((resolve) => issuer.once('listening', resolve));
  const seen: (string | undefined)[] = [];
  const feed = revocationFeed({
    url: `http://127.0.0.1:${(issuer.address() as AddressInfo).port}`,
    auth: { token: () => 'token' },
    onError: () => seen.push(feed.epoch()?.id),
  });
  onTestFinished(() => feed.close());
  // What it says once the issuer has no more to tell.
  await vi.waitFor(() => expect(seen).toContain('ended'), { timeout: 5000 });
  expect(epochs).toEqual([]);
  const issued = (issuedAt: number) => feed.denies({ userId: 'ada', sessionId: 'phone', issuedAt });
  expect([issued(1999), issued(2000)]).toEqual([true, false]);
});
