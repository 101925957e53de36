/** The other side of OTLP over HTTP: takes what the apps export and reads it, by opentelemetry-proto's trace.proto. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

export interface CollectedSpan {
  service: string | undefined;
  name: string;
  /** As the protocol counts them: 2 server, 3 client, 4 producer, 5 consumer. */
  kind: number;
  traceId: string;
  spanId: string;
  /** The empty string at the root. */
  parentId: string;
  /** Nanoseconds since 1970. */
  start: bigint;
  end: bigint;
  attributes: Record<string, string | number>;
  /** 2: error. */
  status: number;
}

/** The fields of a message, by number: a number, or the bytes of a text, of bytes or of a message (protobuf's wire format). */
function fields(message: Buffer) {
  const found = new Map<number, (bigint | Buffer)[]>();
  let at = 0;
  const varint = (): bigint => {
    for (let value = 0n, shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(at++);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const bytes = (length: number): Buffer => {
    at += length;
    return message.subarray(at - length, at);
  };
  while (at < message.length) {
    const tag = Number(varint());
    const read = {
      0: varint,
      1: () => bytes(8).readBigUInt64LE(),
      2: () => bytes(Number(varint())),
      5: () => bytes(4),
    }[tag & 7];
    if (!read) throw new Error(`no wire type ${tag & 7}`);
    found.set(tag >> 3, [...(found.get(tag >> 3) ?? []), read()]);
  }
  const all = (number: number) => found.get(number) ?? [];
  return {
    messages: (number: number) => all(number).map((value) => fields(value as Buffer)),
    bytes: (number: number) => (all(number)[0] as Buffer | undefined) ?? Buffer.alloc(0),
    number: (number: number) => (all(number)[0] as bigint | undefined) ?? 0n,
  };
}
type Message = ReturnType<typeof fields>;

/** KeyValue: of AnyValue, texts and integers are all we have. */
const attributes = (message: Message, number: number): Record<string, string | number> =>
  Object.fromEntries(
    message.messages(number).map((entry) => {
      const [value = fields(Buffer.alloc(0))] = entry.messages(2);
      const text = value.bytes(1).toString();
      return [entry.bytes(1).toString(), text === '' ? Number(value.number(3)) : text];
    }),
  );

/** ExportTraceServiceRequest → ResourceSpans → ScopeSpans → Span. */
function spansOf(request: Buffer): CollectedSpan[] {
  return fields(request)
    .messages(1)
    .flatMap((ofResource) => {
      const [resource] = ofResource.messages(1);
      const service = resource && String(attributes(resource, 1)['service.name']);
      const spans = ofResource.messages(2).flatMap((ofScope) => ofScope.messages(2));
      return spans.map((span) => ({
        service,
        name: span.bytes(5).toString(),
        kind: Number(span.number(6)),
        traceId: span.bytes(1).toString('hex'),
        spanId: span.bytes(2).toString('hex'),
        parentId: span.bytes(4).toString('hex'),
        start: span.number(7),
        end: span.number(8),
        attributes: attributes(span, 9),
        status: Number(span.messages(15)[0]?.number(3) ?? 0n),
      }));
    });
}

/** How it answers: it takes spans, or refuses them for good, or takes requests and never answers. */
export type CollectorMode = 'takes' | 'refuses' | 'deaf';

export async function startTraceCollector() {
  const bodies: Buffer[] = [];
  let mode: CollectorMode = 'takes';
  const server = createServer(async (request, response) => {
    const body = await buffer(request);
    const understood = request.url === '/v1/traces' && request.headers['content-type'] === 'application/x-protobuf';
    if (understood) bodies.push(body);
    if (mode === 'deaf') return;
    response.writeHead(understood && mode === 'takes' ? 200 : 400, { 'content-type': 'application/x-protobuf' }).end();
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    become(next: CollectorMode): void {
      mode = next;
    },
    /** How many exports it has had, whatever it answered. */
    exports: () => bodies.length,
    spans: () => bodies.flatMap(spansOf),
    /** Every byte it was sent. */
    text: () => Buffer.concat(bodies).toString('latin1'),
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
