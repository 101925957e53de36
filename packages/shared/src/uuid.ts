/** UUIDs in the one spelling Latchkey takes: lower case, with hyphens (RFC 9562 section 4). */

/** For a schema. */
export const UUID_PATTERN = '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';

const UUID = new RegExp(UUID_PATTERN);

export const isUuid = (text: string): boolean => UUID.test(text);

/** Writes its 16 bytes. */
export function writeUuid(uuid: string, bytes: Buffer, at: number): void {
  bytes.write(uuid.replaceAll('-', ''), at, 'hex');
}

/** @returns the UUID whose 16 bytes begin there. */
export const readUuid = (bytes: Buffer, at: number): string =>
  bytes.toString('hex', at, at + 16).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
