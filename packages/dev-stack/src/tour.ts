/** `npm run tour`: walks a running set from registration to the last revocation and checks every answer. */
import { randomBytes } from 'node:crypto';
import { inheritedEnvironment, readStackSettings } from './environment.ts';
import { StackFailure } from './stack-failure.ts';
import { type TourAnswer, TourGuide, type TourStep } from './tour-guide.ts';

const settings = readStackSettings(inheritedEnvironment());
const guide = new TourGuide(settings.publicUrl, `http://localhost:${settings.inboxPort}`, (text) =>
  process.stdout.write(text),
);

try {
  await tour(guide);
  process.stdout.write(`\nEvery answer was right (${guide.steps} steps).\n`);
} catch (error) {
  if (!(error instanceof StackFailure)) {
    throw error;
  }
  process.stderr.write(`\n${error.message}\n`);
  process.exitCode = 1;
}

type Device = { readonly name: string; access: string; refresh: string; session: string };

async function tour(walk: TourGuide): Promise<void> {
  await walk.checkThatItRuns();
  const email = `tour-${randomBytes(6).toString('hex')}@example.com`;
  const password = randomBytes(18).toString('base64url');

  await walk.step({
    title: `Register ${email}`,
    call: ['POST', '/v1/users', { email, password, display_name: 'Tour' }],
    expect: { status: 202, body: { status: 'activation_required' } },
  });
  await walk.step({
    title: 'Log in before activation: refused',
    call: ['POST', '/v1/tokens', { email, password }],
    expect: { status: 403, body: { code: 'account_not_activated' } },
  });
  const key = await walk.activationKeyFromMail(email);
  await walk.step({ title: 'Open the mailed page', call: ['GET', `/activate/${key}`], expect: { status: 200 } });
  await walk.step({
    title: 'Opening it has changed nothing',
    call: ['GET', `/v1/activations/${key}`],
    expect: { status: 200, body: { status: 'pending' } },
  });
  const activated = await walk.step({
    title: 'Activate',
    call: ['POST', `/v1/activations/${key}`],
    expect: { status: 200, body: { user: { email, status: 'active' } } },
  });
  await walk.step({
    title: 'Activate again: the key is spent',
    call: ['POST', `/v1/activations/${key}`],
    expect: { status: 410, body: { code: 'activation_key_used' } },
  });

  const laptop = await logIn(walk, email, password, 'laptop');
  const phone = await logIn(walk, email, password, 'phone');
  const user = textAt(activated.body, 'user', 'id');
  await walk.step({ ...verify(laptop), expect: { status: 200, headers: { 'x-auth-user': user } } });
  await walk.step({ ...verify(phone), expect: { status: 200, headers: { 'x-auth-session': phone.session } } });

  const refreshed = await walk.step({
    title: 'Refresh on the laptop',
    call: ['POST', '/v1/tokens/refresh', { refresh_token: laptop.refresh }],
    expect: { status: 200, body: { token_type: 'Bearer', session: { id: laptop.session } } },
  });
  takeTokens(laptop, refreshed);
  await walk.step({ ...verify(laptop), expect: { status: 200 } });

  await walk.step({
    title: 'Log out on the laptop',
    call: ['DELETE', '/v1/sessions/current', undefined, laptop.access],
    expect: { status: 204 },
  });
  await walk.step({ ...verify(laptop), expect: { status: 401 } });
  await walk.step({ ...refresh(laptop), expect: { status: 401 } });
  await walk.step({ ...verify(phone), expect: { status: 200 } });

  await walk.step({
    title: 'Log out everywhere, from the phone',
    call: ['DELETE', '/v1/sessions', undefined, phone.access],
    expect: { status: 204 },
  });
  await walk.step({ ...verify(phone), expect: { status: 401 } });
  await walk.step({ ...refresh(phone), expect: { status: 401 } });
}

async function logIn(walk: TourGuide, email: string, password: string, name: string): Promise<Device> {
  const answer = await walk.step({
    title: `Log in on the ${name}`,
    call: ['POST', '/v1/tokens', { email, password, device_name: name }],
    expect: { status: 200, body: { token_type: 'Bearer', session: { device_name: name } } },
  });
  const device: Device = { name, access: '', refresh: '', session: textAt(answer.body, 'session', 'id') };
  takeTokens(device, answer);
  return device;
}

function takeTokens(device: Device, answer: TourAnswer): void {
  device.access = textAt(answer.body, 'access_token');
  device.refresh = textAt(answer.body, 'refresh_token');
}

function verify(device: Device): Pick<TourStep, 'title' | 'call'> {
  return { title: `Verify the ${device.name}'s access token`, call: ['GET', '/v1/verify', undefined, device.access] };
}

function refresh(device: Device): Pick<TourStep, 'title' | 'call'> {
  return {
    title: `Refresh on the ${device.name}`,
    call: ['POST', '/v1/tokens/refresh', { refresh_token: device.refresh }],
  };
}

/** A text deep in a JSON answer. @throws StackFailure when it is not there. */
function textAt(body: unknown, ...path: readonly string[]): string {
  let value: unknown = body;
  for (const name of path) {
    value = typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
  }
  if (typeof value !== 'string' || value === '') {
    throw new StackFailure(`Wrong: the answer has no ${path.join('.')}.`);
  }
  return value;
}
