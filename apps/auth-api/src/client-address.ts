/** Where a request comes from, as the socket or a trusted proxy says. */
import { isIP } from 'node:net';

/** Stands for anything that is no address (RFC 7239 section 6.2). */
const UNKNOWN = 'unknown';

/** The address alone: some proxies write the client's port behind it, and then every connection would be somebody else. */
export function addressOf(ip: string): string {
  const alone = /^\[(.+)\](?::\d+)?$|^([\d.]+):\d+$/.exec(ip);
  const address = alone?.[1] ?? alone?.[2] ?? ip;
  return isIP(address) === 0 ? UNKNOWN : address;
}

/** What an address stands for: an IPv6 subscriber has a whole /64 (RFC 6177), and must not have as many tries as addresses. */
export function networkOf(text: string): string {
  const ip = addressOf(text);
  if (isIP(ip) !== 6) return ip;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(ip)?.[1];
  if (mapped !== undefined) return mapped;
  const [head = '', tail] = ip.toLowerCase().split('%', 1)[0]?.split('::') ?? [];
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups =
    tail === undefined
      ? before
      : [...before, ...Array.from({ length: 8 - before.length - after.length }, () => '0'), ...after];
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}
