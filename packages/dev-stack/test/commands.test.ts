import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { forPeople } from '../src/app-process.ts';
import { StopRequest } from '../src/stop-request.ts';
import { countResults, summaryLine } from '../src/test-results.ts';
import { TourGuide } from '../src/tour-guide.ts';
import { start } from './stack-under-test.ts';

describe('npm test ends with what really happened', () => {
  const outcome = (status: string): object => ({ fullName: `a ${status} test`, status });

  test('passed, failed and skipped tests are counted, skipped ones named', () => {
    const results = countResults({
      testResults: [
        { name: 'a', status: 'passed', assertionResults: [outcome('passed'), outcome('passed'), outcome('skipped')] },
        { name: 'b', status: 'failed', assertionResults: [outcome('passed'), outcome('failed'), outcome('todo')] },
      ],
    });
    expect(results).toEqual({ passed: 3, failed: 1, skipped: ['a skipped test', 'a todo test'] });
    expect(summaryLine(results)).toBe('3 passed, 1 failed, 2 skipped');
  });

  test('a file that cannot be loaded counts as failed', () => {
    const results = countResults({ testResults: [{ name: 'a', status: 'failed', assertionResults: [] }] });
    expect(summaryLine(results)).toBe('0 passed, 1 failed');
  });

  test('nothing to count is nothing passed', () => {
    expect(countResults(undefined)).toEqual({ passed: 0, failed: 0, skipped: [] });
  });
});

describe('one Ctrl-C, however many times it arrives, asks; a later one hurries', () => {
  test('within a second it is the same', async () => {
    const stop = new StopRequest();
    let hurried = false;
    void stop.hurried.then(() => {
      hurried = true;
    });
    for (const now of [5000, 5001, 5900]) {
      stop.ask(now);
    }
    await stop.asked;
    await new Promise((resolve) => setImmediate(resolve));
    expect(hurried).toBe(false);
    stop.ask(6001);
    await stop.hurried;
  });
});

describe('of an app log people are shown', () => {
  test('warnings and worse, readably, and what is no log line at all', () => {
    expect(forPeople('api', JSON.stringify({ level: 30, msg: 'request' }))).toBeUndefined();
    expect(forPeople('api', JSON.stringify({ level: 40, msg: 'slow' }))).toBe('api │ warning: slow');
    const broken = { level: 50, msg: 'failed', err: { message: 'connection refused' } };
    expect(forPeople('api', JSON.stringify(broken))).toBe('api │ error: failed: connection refused');
    expect(forPeople('api', 'SyntaxError: oops')).toBe('api │ SyntaxError: oops');
  });
});

describe('the tour', () => {
  test('fails on a wrong status, a wrong body, a wrong header, and passes on the right ones', async () => {
    const guide = new TourGuide(await server({ user: { id: '7', email: 'a@b' } }), '', () => undefined);
    const call = ['GET', '/'] as const;
    await guide.step({
      title: 'right',
      call,
      expect: { status: 200, body: { user: { id: '7' } }, headers: { 'x-auth-user': '7' } },
    });
    const wrong = (expected: object): Promise<unknown> =>
      guide.step({ title: 'wrong', call, expect: { status: 200, ...expected } });
    await expect(wrong({ status: 204 })).rejects.toThrow('status 204 was expected, not 200');
    await expect(wrong({ body: { user: { id: '8' } } })).rejects.toThrow('was expected');
    await expect(wrong({ body: { status: 'pending' } })).rejects.toThrow('was expected');
    await expect(wrong({ headers: { 'x-auth-user': '8' } })).rejects.toThrow('x-auth-user');
  });

  test('prints no whole secret', async () => {
    let printed = '';
    const guide = new TourGuide(await server({ access_token: 'very-secret-token' }), '', (text) => {
      printed += text;
    });
    const body = { password: 'very-secret-password' };
    await guide.step({ title: 'x', call: ['POST', '/', body, 'very-secret-bearer'], expect: { status: 200 } });
    expect(printed).not.toMatch(/very-secret/);
    expect(printed).toContain('very-s…');
  });

  test('against nothing says how to start it, and fails', { timeout: 30_000 }, async () => {
    const tour = await start(process.execPath, [fileURLToPath(new URL('../src/tour.ts', import.meta.url))]);
    expect(await tour.exit).toBe(1);
    expect(tour.output()).toContain('Start the set with "npm start" in another terminal');
    expect(tour.output()).not.toMatch(/\n\s+at /);
  });
});

async function server(body: object): Promise<string> {
  const listening = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'x-auth-user': '7' });
    response.end(JSON.stringify(body));
  });
  onTestFinished(() => {
    listening.close();
    listening.closeAllConnections();
  });
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(listening.address() as AddressInfo).port}`;
}
