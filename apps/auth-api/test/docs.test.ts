/** Pages that name code name what is there. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { describe, expect, test } from 'vitest';

const APP = 'apps/auth-api/src';
const page = readFileSync(join(repositoryRoot, 'docs/states.md'), 'utf8');

/** Every `file` and `file#function` in backquotes. */
const named = [...page.matchAll(/`([\w./-]+\.(?:ts|lua))(?:#(\w+))?`/g)].map(([, file = '', name]) => ({
  file: file.startsWith('/') ? file.slice(1) : `${APP}/${file}`,
  name,
}));

/** Whether a source defines something that can be called by this name: a function, a method, a property that holds one. */
function defines(source: string, name: string): boolean {
  return [
    `\\bfunction ${name}\\b`,
    `\\bconst ${name} = `,
    `^\\s+(?:async )?${name}(?:<[^>]*>)?\\((?:$|.*\\{$)`,
    `^\\s+${name}: (?:async )?\\(`,
  ].some((pattern) => new RegExp(pattern, 'm').test(source));
}

describe('docs/states.md', () => {
  test('names files and functions that are there', () => {
    expect(named.length).toBeGreaterThan(50);
    const missing = named.filter(({ file, name }) => {
      const path = join(repositoryRoot, file);
      return !existsSync(path) || (name !== undefined && !defines(readFileSync(path, 'utf8'), name));
    });
    expect(missing).toEqual([]);
  });

  test('names every script that moves a session or a gate', () => {
    const scripts = readdirSync(join(repositoryRoot, APP, 'store/lua')).map((file) => `${APP}/store/lua/${file}`);
    const files = new Set(named.map(({ file }) => file));
    expect(scripts.filter((script) => !files.has(script))).toEqual([]);
  });

  test('links to pages that are there', () => {
    const links = [...page.matchAll(/\]\(([^)#]+)\)/g)].map(([, link = '']) => link);
    expect(links.length).toBeGreaterThan(3);
    expect(links.filter((link) => !existsSync(join(repositoryRoot, 'docs', link)))).toEqual([]);
  });
});
