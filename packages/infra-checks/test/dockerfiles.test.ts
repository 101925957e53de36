import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { DockerfileParser, type From, type Healthcheck, type JSONInstruction } from 'dockerfile-ast';
import { validate } from 'dockerfile-utils';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { execForm } from '../src/image.ts';

const folder = join(repositoryRoot, 'infra/docker');
const names = readdirSync(folder).map((file) => file.replace(/\.Dockerfile$/, ''));
const { catalog } = parse(readFileSync(join(repositoryRoot, 'pnpm-workspace.yaml'), 'utf8')) as {
  catalog: Record<string, string>;
};
const { packageManager } = JSON.parse(readFileSync(join(repositoryRoot, 'package.json'), 'utf8')) as {
  packageManager: string;
};

test('each deployable has a Dockerfile', () => {
  expect(names.toSorted()).toEqual(['auth-api', 'cli', 'mailer-worker', 'migrations']);
});

describe.each(names)('%s.Dockerfile', (name) => {
  const content = readFileSync(join(folder, `${name}.Dockerfile`), 'utf8');
  const instructions = DockerfileParser.parse(content).getInstructions();
  const last = instructions.slice(instructions.findLastIndex((one) => one.getKeyword() === 'FROM'));
  const ofLast = (keyword: string) => last.filter((one) => one.getKeyword() === keyword);

  test('is what a builder accepts', () => {
    expect(validate(content).map(({ message, range }) => `${range.start.line + 1}: ${message}`)).toEqual([]);
  });

  test('has bases pinned to a version, and the versions this repository pins', () => {
    const stages = new Set<string>();
    for (const from of instructions.filter((one) => one.getKeyword() === 'FROM') as From[]) {
      const image = from.getImage() ?? '';
      if (!stages.has(image)) expect(image).toMatch(/:\d+\.\d+(\.\d+)?-[a-z-]+$|@sha256:[0-9a-f]{64}$/);
      stages.add(from.getBuildStage() ?? '');
    }
    expect(content).toContain(`FROM node:${catalog.node}-`);
    for (const [used] of content.matchAll(/\bpnpm@[\d.]+/g)) expect(used).toBe(packageManager);
    for (const [used] of content.matchAll(/\bturbo@[\d.]+/g)) expect(used).toBe(`turbo@${catalog.turbo}`);
  });

  test('installs for production, from the lockfile alone', () => {
    const installs = instructions
      .filter((one) => one.getKeyword() === 'RUN' && one.getArgumentsContent()?.includes(' install'))
      .map((one) => one.getArgumentsContent());
    expect(installs.length).toBeGreaterThan(0);
    for (const install of installs) expect(install).toContain('--frozen-lockfile');
    expect(installs.at(-1)).toContain('--prod');
  });

  test('ends in a stage that only copies: from a base without npm, as nobody, in exec form', () => {
    expect((last[0] as From).getImage()).toMatch(/^debian:/);
    expect(ofLast('RUN')).toEqual([]);
    expect(instructions.filter((one) => one.getKeyword() === 'ADD')).toEqual([]);
    const [user] = ofLast('USER');
    // A number other than 0: Kubernetes can't tell what a name stands for.
    expect(user?.getArgumentsContent()).toMatch(/^[1-9]\d*:[1-9]\d*$/);
    const [command] = [...ofLast('ENTRYPOINT'), ...ofLast('CMD')] as JSONInstruction[];
    expect(command && execForm(command)[0]).toBe('node');
    expect(ofLast('HEALTHCHECK')).toHaveLength(1);
    expect(ofLast('STOPSIGNAL')[0]?.getArgumentsContent()).toBe('SIGTERM');
  });

  test('holds no secret and nothing of a machine', () => {
    const set = instructions.filter((one) => ['ENV', 'ARG', 'LABEL'].includes(one.getKeyword()));
    for (const one of set) expect(one.getArgumentsContent()).not.toMatch(/secret|token|password|key|url/i);
  });

  test('is asked whether it lives, if it serves', () => {
    const [check] = ofLast('HEALTHCHECK') as Healthcheck[];
    if (['migrations', 'cli'].includes(name)) expect(check?.getArgumentsContent()).toBe('NONE');
    else expect(check?.getArgumentsContent()).toContain('/livez');
  });
});
