/**
 * What a session keeps of the device that opened it, small: a browser's name of itself is 130 characters that are nearly the same
 * for everybody, and more than 64 bytes in one field take Redis from 250 to 600 bytes for the session (`hash-max-listpack-value`).
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib';

/** What such names have in common, the most frequent last (RFC 1951's shortest references are to what is near). Never changes: reading needs it. */
const FIRST_DICTIONARY = Buffer.from(
  [
    'Opera/9.80 Dalvik/2.1.0 (Linux; U; Android  Build/okhttp/4.12.0 Dart/3.5 (dart:io) axios/1.7.7 node-fetch python-requests/2.32.3 ',
    'PostmanRuntime/7.43.0 curl/8.10.1 Go-http-client/2.0 CFNetwork/1568.200.51 Darwin/24.1.0 ',
    ' SamsungBrowser/26.0 OPR/114.0.0.0 CriOS/131.0.6778.73 FxiOS/132.0 Edg/131.0.0.0',
    'Mozilla/5.0 (Android 14; Mobile; rv:132.0) Gecko/132.0 Firefox/132.0',
    'Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0',
    'Mozilla/5.0 (iPad; CPU OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1',
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36',
    'Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:132.0) Gecko/20100101 Firefox/132.0',
    'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15',
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0',
    'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1',
    'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36',
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36',
  ].join(''),
);
/** The first byte says which dictionary was used. */
const FIRST = 1;

export interface Device {
  deviceName: string | null;
  userAgent: string | null;
  ip: string;
}

/** None of the three can hold a line break: the schema of a device name, RFC 9110 section 5.5 for a header. */
export const packDevice = ({ deviceName, userAgent, ip }: Device): Buffer =>
  Buffer.concat([
    Buffer.of(FIRST),
    deflateRawSync([ip, deviceName ?? '', userAgent ?? ''].join('\n'), { level: 9, dictionary: FIRST_DICTIONARY }),
  ]);

/** @returns nothing known for what is not readable: a newer release wrote it. */
export function unpackDevice(packed: Buffer): Device {
  if (packed[0] !== FIRST) return { deviceName: null, userAgent: null, ip: '' };
  const [ip = '', deviceName = '', userAgent = ''] = inflateRawSync(packed.subarray(1), {
    dictionary: FIRST_DICTIONARY,
  })
    .toString()
    .split('\n');
  return { deviceName: deviceName || null, userAgent: userAgent || null, ip };
}
