/** This release's worker takes what the previous release's API has put into the queue (the other way round: auth-api's mail-contract test). */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import type { JobsOptions } from 'bullmq';
import { expect, onTestFinished, test } from 'vitest';
import { createHarness, keyIn } from './harness.ts';

interface Recorded {
  options: JobsOptions;
  jobs: { name: string; payload: Record<string, unknown> }[];
}
const file = `${repositoryRoot}/packages/shared/test/fixtures/previous-mail-contract.json`;
const { options, jobs }: Recorded = JSON.parse(readFileSync(file, 'utf8'));

test('every job of the previous release is delivered', async () => {
  const harness = await createHarness();
  onTestFinished(() => harness.close());
  await harness.start();
  for (const { name, payload } of jobs) {
    const jobId = randomUUID();
    const to = `${jobId}@recipient.test`;
    await harness.queue.add(name, { ...payload, to }, { ...options, jobId });
    const { text } = await harness.catcher.waitFor(to);
    await harness.settled(jobId);
    expect(keyIn(text) !== '', name).toBe(payload.attempt !== undefined);
  }
});
