/**
 * Builds what a Dockerfile of infra/docker says, without Docker: each stage is a folder, and the same instructions run in it. So what the
 * tests start holds what the image would hold, and nothing else of the repository.
 */
import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type Environment, inheritedEnvironment } from '@latchkey/dev-stack/environment';
import { startProcess } from '@latchkey/dev-stack/processes';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { type Copy, DockerfileParser, type From, type Instruction, type JSONInstruction } from 'dockerfile-ast';

export interface Image {
  /** The folder that stands for `/` of the last stage. */
  root: string;
  workdir: string;
  /** As exec forms. */
  entrypoint: string[];
  command: string[];
  environment: Record<string, string>;
}

/** The arguments of an instruction in exec form. */
export const execForm = (instruction: JSONInstruction): string[] =>
  instruction.getJSONStrings().map((item) => JSON.parse(item.getJSONValue() === '' ? '""' : `${item}`) as string);

const words = (instruction: Instruction): string[] => instruction.getArguments().map((argument) => argument.getValue());

/** A command in a folder; its output is only shown when it fails. @throws Error with the end of the output. */
async function run(command: string, cwd: string, env: Environment): Promise<void> {
  const output: string[] = [];
  const { ended } = startProcess({
    command: '/bin/sh',
    args: ['-c', command],
    cwd,
    env,
    endSignal: 'SIGTERM',
    output: (line) => output.push(line),
  });
  const { code } = await ended;
  if (code !== 0) throw new Error(`${command} ended with ${code}:\n${output.slice(-20).join('\n')}`);
}

/** What `COPY . .` takes: what git knows, or would add. */
async function copyRepository(to: string): Promise<void> {
  await run(
    `git ls-files -z --cached --others --exclude-standard --deduplicate | tar --null --ignore-failed-read -T - -cf - | tar xf - -C "${to}"`,
    repositoryRoot,
    inheritedEnvironment(),
  );
}

/** @param folder an empty one, for the stages. */
export async function buildImage(name: string, folder: string): Promise<Image> {
  const dockerfile = DockerfileParser.parse(
    readFileSync(join(repositoryRoot, 'infra/docker', `${name}.Dockerfile`), 'utf8'),
  );
  const stages = new Map<string, Image>();

  function from(instruction: From): Image {
    const root = join(folder, String(stages.size));
    mkdirSync(root, { recursive: true });
    const environment = { ...stages.get(instruction.getImage() ?? '')?.environment };
    const begun = { root, workdir: '/', entrypoint: [], command: [], environment };
    stages.set(instruction.getBuildStage() ?? 'last', begun);
    return begun;
  }

  async function copy(instruction: Copy, into: Image): Promise<void> {
    const [source = '', target = ''] = words(instruction);
    const isFile = target.endsWith('/') && !/(?:^\.|\/)$/.test(source);
    const place = join(into.root, target.startsWith('/') ? '' : into.workdir, target);
    mkdirSync(target.endsWith('/') ? place : dirname(place), { recursive: true });
    const origin = instruction.getFromFlag()?.getValue();
    // The base image's Node is the one this runs on.
    if (source === '/usr/local/bin/node') cpSync(process.execPath, place);
    else if (origin) {
      const root = stages.get(origin)?.root ?? `(no stage ${origin})`;
      cpSync(join(root, source), isFile ? join(place, basename(source)) : place, {
        recursive: true,
        verbatimSymlinks: true,
      });
    } else await copyRepository(place);
  }

  /** The instructions that shape a stage; the others (USER, EXPOSE, HEALTHCHECK) say how its container is run. */
  const steps: Record<string, (instruction: Instruction, stage: Image) => void | Promise<void>> = {
    WORKDIR(instruction, stage) {
      stage.workdir = words(instruction)[0] ?? '/';
      mkdirSync(join(stage.root, stage.workdir), { recursive: true });
    },
    ENV(instruction, stage) {
      const pairs = words(instruction).map((pair) => pair.split(/=(.*)/s, 2) as [string, string]);
      Object.assign(stage.environment, Object.fromEntries(pairs));
    },
    RUN: (instruction, stage) =>
      run(instruction.getRawArgumentsContent() ?? '', join(stage.root, stage.workdir), {
        // The registry as this machine reaches it. What was installed before is not asked of it again.
        ...inheritedEnvironment(),
        npm_config_prefer_offline: 'true',
        CI: 'true',
        ...stage.environment,
      }),
    COPY: (instruction, stage) => copy(instruction as Copy, stage),
    ENTRYPOINT(instruction, stage) {
      stage.entrypoint = execForm(instruction as JSONInstruction);
    },
    CMD(instruction, stage) {
      stage.command = execForm(instruction as JSONInstruction);
    },
  };

  let stage: Image | undefined;
  for (const instruction of dockerfile.getInstructions()) {
    if (instruction.getKeyword() === 'FROM') stage = from(instruction as From);
    else if (stage) await steps[instruction.getKeyword()]?.(instruction, stage);
  }
  if (!stage) throw new Error(`${name}.Dockerfile has no stage`);
  return stage;
}
