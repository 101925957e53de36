import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '@latchkey/dev-stack/repository';
import { programOnPath } from '@latchkey/dev-stack/system-programs';
import { Deployment } from 'kubernetes-models/apps/v1';
import { HorizontalPodAutoscaler } from 'kubernetes-models/autoscaling/v2';
import { Job } from 'kubernetes-models/batch/v1';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1';
import { Namespace, Service } from 'kubernetes-models/v1';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { readEnv as readApiEnv } from '../../../apps/auth-api/src/env.ts';
import { readEnv as readWorkerEnv } from '../../../apps/mailer-worker/src/env.ts';

const k8s = join(repositoryRoot, 'infra/k8s');
const kinds = { Deployment, HorizontalPodAutoscaler, Job, NetworkPolicy, PodDisruptionBudget, Namespace, Service };
type Kind = keyof typeof kinds;
type Manifest = { kind: Kind; metadata: { name: string }; spec: Record<string, unknown> };

interface Kustomization {
  resources: string[];
  images?: { name: string; newName: string; newTag: string }[];
  configMapGenerator?: { name: string; literals: string[] }[];
}
const kustomization = (folder: string) =>
  parse(readFileSync(join(k8s, folder, 'kustomization.yaml'), 'utf8'), { strict: true }) as Kustomization;

const base = kustomization('base');
const manifests = base.resources.flatMap((file) =>
  parseAllDocuments(readFileSync(join(k8s, 'base', file), 'utf8'), { strict: true, merge: true }).map((document) => {
    expect(document.errors, file).toEqual([]);
    return document.toJS() as Manifest;
  }),
);
const named = (kind: Kind, name: string) => {
  const found = manifests.find((one) => one.kind === kind && one.metadata.name === name);
  if (!found) throw new Error(`no ${kind} ${name}`);
  return found;
};

interface Container {
  image: string;
  env?: { name: string; valueFrom?: { secretKeyRef: { name: string; key: string } }; value?: string }[];
  envFrom?: { configMapRef: { name: string } }[];
  securityContext: object;
  resources: { requests: object; limits: object };
  livenessProbe?: { httpGet: { path: string; port: string } };
  readinessProbe?: { httpGet: { path: string; port: string } };
  startupProbe?: { httpGet: { path: string; port: string } };
  ports?: { name: string; containerPort: number }[];
}
interface Pod {
  metadata: { labels: Record<string, string> };
  spec: { containers: Container[]; securityContext: object; terminationGracePeriodSeconds: number };
}
const podOf = (manifest: Manifest) => (manifest.spec as { template: Pod }).template;
const workloads = manifests.filter(({ kind }) => kind === 'Deployment' || kind === 'Job');

test('the base lists every manifest, and the overlay sets every image to an exact version', () => {
  const files = readdirSync(join(k8s, 'base')).filter((file) => file !== 'kustomization.yaml');
  expect(files.toSorted()).toEqual(base.resources.toSorted());
  const overlay = kustomization('production');
  expect(overlay.resources).toEqual(['../base']);
  const used = workloads.map((one) => podOf(one).spec.containers[0]?.image);
  expect(overlay.images?.map(({ name }) => name).toSorted()).toEqual(used.toSorted());
  for (const { newTag } of overlay.images ?? []) expect(newTag).toMatch(/^\d+\.\d+\.\d+$/);
});

test.each(manifests.map((manifest) => [manifest.kind, manifest.metadata.name, manifest] as const))(
  '%s %s is what the API server accepts',
  (kind, _name, manifest) => {
    expect(Object.keys(kinds)).toContain(kind);
    // Each constructor takes its own kind's fields; that these are they is what `validate` finds out.
    const Model = kinds[kind] as new (data: never) => { validate(): void };
    expect(() => new Model(manifest as never).validate()).not.toThrow();
  },
);

describe.each(workloads.map((manifest) => [manifest.metadata.name, manifest] as const))('%s', (name, manifest) => {
  const pod = podOf(manifest);
  const [container] = pod.spec.containers;
  if (!container) throw new Error('no container');

  test('keeps to the restricted Pod Security Standard', () => {
    expect(pod.spec).toMatchObject({
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 10001, seccompProfile: { type: 'RuntimeDefault' } },
    });
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    expect(container.resources).toMatchObject({
      requests: { cpu: expect.anything() },
      limits: { memory: expect.any(String) },
    });
  });

  test('gets exactly the variables its app reads, and secrets by reference', () => {
    for (const { name: variable, value } of container.env ?? []) expect(value, variable).toBeUndefined();
    const fromSecrets = (container.env ?? []).map(({ name: variable, valueFrom }) => {
      expect(valueFrom?.secretKeyRef).toEqual({ name: `latchkey-${name}`, key: variable });
      return variable;
    });
    const plain = (container.envFrom ?? []).flatMap(({ configMapRef }) => {
      const generated = base.configMapGenerator?.find((one) => one.name === configMapRef.name);
      expect(generated, configMapRef.name).toBeDefined();
      return (generated?.literals ?? []).map((literal) => literal.split(/=(.*)/s, 2) as [string, string]);
    });
    const values: Record<string, string> = {
      DATABASE_URL: 'postgresql://user@host/database',
      REDIS_URL: 'redis://host',
      SMTP_URL: 'smtp://host',
      MASTER_KEY: Buffer.alloc(32).toString('base64'),
    };
    const environment = Object.fromEntries([...plain, ...fromSecrets.map((key) => [key, values[key]] as const)]);
    const read = { 'auth-api': readApiEnv, 'mailer-worker': readWorkerEnv }[name];
    if (read === undefined) expect(Object.keys(environment)).toEqual(['DATABASE_URL']);
    // Throws for what is missing; what it does not know it would silently ignore.
    else expect(Object.keys(read(environment))).toEqual(expect.arrayContaining(Object.keys(environment)));
  });
});

test('a manifest is read alike by every parser: kubectl’s takes no bare ? in braces', () => {
  const folders = ['base', 'production'].map((folder) => join(k8s, folder));
  for (const folder of folders)
    for (const file of readdirSync(folder))
      expect([file, readFileSync(join(folder, file), 'utf8').match(/\{[^}"'\n]*\?/)?.[0]]).toEqual([file, undefined]);
});

const kubectl = programOnPath('kubectl');
test.skipIf(kubectl === undefined)('kubectl builds what is to be applied (needs kubectl)', () => {
  const built = execFileSync(kubectl ?? '', ['kustomize', join(k8s, 'production')], { encoding: 'utf8' });
  expect(parseAllDocuments(built).length).toBeGreaterThan(manifests.length);
});

describe.each(['auth-api', 'mailer-worker'] as const)('%s', (name) => {
  const deployment = named('Deployment', name);
  const labels = { 'app.kubernetes.io/name': name };
  const pod = podOf(deployment);
  const [container] = pod.spec.containers;

  test('is selected by its own label, everywhere', () => {
    expect(pod.metadata.labels).toMatchObject(labels);
    for (const manifest of [deployment, named('PodDisruptionBudget', name)])
      expect(manifest.spec).toMatchObject({ selector: { matchLabels: labels } });
    expect(named('NetworkPolicy', name).spec).toMatchObject({ podSelector: { matchLabels: labels } });
  });

  test('is probed where it says what is meant, and rolls out without losing capacity', () => {
    const ports = container?.ports?.map((port) => port.name) ?? [];
    expect(container?.livenessProbe?.httpGet.path).toBe('/livez');
    expect(container?.startupProbe?.httpGet.path).toBe('/livez');
    // auth-api has to be ready in full once; then it stays while the database is away (apps/auth-api/test/readiness.test.ts).
    const ready = {
      'auth-api': '/readyz?exclude=postgresql&exclude=migrations&exclude=signing_keys',
      'mailer-worker': '/readyz',
    }[name];
    expect(container?.readinessProbe?.httpGet.path).toBe(ready);
    expect(ports).toContain(container?.readinessProbe?.httpGet.port);
    expect(deployment.spec).toMatchObject({ strategy: { rollingUpdate: { maxUnavailable: 0 } } });
    // auth-api serves on for so long, then both end within 9 s and 10 s.
    const literals = base.configMapGenerator?.flatMap((one) => (one.name === `latchkey-${name}` ? one.literals : []));
    const delay = /^SHUTDOWN_DELAY_MS=(\d+)$/m.exec(literals?.join('\n') ?? '')?.[1];
    expect(delay !== undefined).toBe(name === 'auth-api');
    expect(pod.spec.terminationGracePeriodSeconds).toBeGreaterThan(Number(delay ?? 0) / 1000 + 10);
  });

  test('is scaled, and never below two', () => {
    const { spec } = named('HorizontalPodAutoscaler', name);
    expect(spec).toMatchObject({ minReplicas: 2, scaleTargetRef: { kind: 'Deployment', name } });
  });
});

test('the API has a thread that hashes for each core of its limit, not of the node, and knows its callers behind a proxy', () => {
  expect(podOf(named('Deployment', 'auth-api')).spec.containers[0]?.resources.limits).toHaveProperty('cpu');
  const literals = base.configMapGenerator?.find(({ name }) => name === 'latchkey-auth-api')?.literals ?? [];
  expect(literals.join('\n')).toMatch(/^TRUSTED_PROXIES=./m);
});

test('the pod of the command line is one the namespace lets in, and has the database by reference', () => {
  const { spec } = JSON.parse(readFileSync(join(k8s, 'cli.json'), 'utf8')) as Pod;
  const api = podOf(named('Deployment', 'auth-api')).spec;
  expect(spec.securityContext).toEqual(api.securityContext);
  expect(spec).toMatchObject({ automountServiceAccountToken: false, enableServiceLinks: false });
  expect(spec.containers.map(({ securityContext }) => securityContext)).toEqual([api.containers[0]?.securityContext]);
  const database = api.containers[0]?.env?.find(({ name }) => name === 'DATABASE_URL');
  expect(spec.containers[0]?.env).toContainEqual(database);
});

test('the secret of a new client, printed once, stays in no log: the pod sleeps, and the command line is executed in it', () => {
  const readme = readFileSync(join(repositoryRoot, 'infra/README.md'), 'utf8').replaceAll('\\\n', ' ');
  const commands = readme.split('\n').filter((line) => line.startsWith('kubectl'));
  const running = commands.filter((line) => / run cli /.test(line));
  expect(running).toEqual([expect.stringMatching(/ --command -- sleep \d+$/)]);
  expect(commands.filter((line) => line.includes('client create'))).toEqual([
    expect.stringMatching(/^kubectl -n latchkey exec -it cli -- node packages\/cli\/src\/main\.ts client create /),
  ]);
});

test('the board and the command line reach the API', () => {
  const { ingress } = named('NetworkPolicy', 'auth-api').spec as { ingress: unknown[] };
  expect(JSON.stringify(ingress)).toContain('"values":["mailer-worker","cli"]');
  for (const name of ['mailer-worker', 'cli'])
    expect(named('NetworkPolicy', name).spec.egress).toContainEqual({
      to: [{ podSelector: { matchLabels: { 'app.kubernetes.io/name': 'auth-api' } } }],
      ports: [{ protocol: 'TCP', port: 3000 }],
    });
});

test('the API scales by CPU, the worker by the age of the oldest mail that waits', () => {
  expect(JSON.stringify(named('HorizontalPodAutoscaler', 'auth-api').spec.metrics)).toContain('"cpu"');
  const adapter = readFileSync(join(repositoryRoot, 'infra/prometheus/adapter-values.yaml'), 'utf8');
  const [metric] = named('HorizontalPodAutoscaler', 'mailer-worker').spec.metrics as [
    { external: { metric: { name: string } } },
  ];
  expect(metric.external.metric.name).toBe('latchkey_mail_queue_age_seconds');
  expect(adapter).toContain(metric.external.metric.name);
});

test('nothing may talk unless a policy says so, and every workload has one', () => {
  expect(named('NetworkPolicy', 'default-deny').spec).toEqual({
    podSelector: {},
    policyTypes: ['Ingress', 'Egress'],
  });
  for (const { metadata } of workloads) expect(named('NetworkPolicy', metadata.name).spec).toHaveProperty('egress');
  expect(JSON.stringify(named('NetworkPolicy', 'mailer-worker').spec)).not.toContain('5432');
  // A collector of traces is for both apps, and off until an overlay names it.
  expect(named('NetworkPolicy', 'traces').spec).toMatchObject({
    podSelector: { matchExpressions: [{ operator: 'In', values: ['auth-api', 'mailer-worker'] }] },
    egress: [{ ports: [{ port: 4318 }] }],
  });
  expect(base.configMapGenerator?.[0]?.literals).toContain('OTEL_EXPORTER_OTLP_ENDPOINT=');
});
