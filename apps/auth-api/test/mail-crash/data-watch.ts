/** Watches every mail on the wires, whichever run it is of: for what must never be seen, and for what excuses a mail that came twice. */
import type { Chunk } from './wire.ts';

const ID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';
/** The first two keys of record-accepted-2.lua. */
const NOTE = new RegExp(`ledger:(${ID})\\r\\n\\$\\d+\\r\\n\\S*:accepted\\r\\n`, 'g');
const DATA = new RegExp(`^Message-ID: <(${ID})@`, 'gim');
/** What Redis answers to the script that notes: it has run it, and its file has it. */
const EXECUTED = /\+RECORDED\r\n/;

export function watchData() {
  const noted = new Set<string>();
  /** Notes on their way, by the connection they are on. */
  const asked = new Map<number, string[]>();
  /** Disturbances up to the last data of a mail. */
  const disturbedAtData = new Map<string, number>();
  let disturbances = 0;

  const idsIn = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, id = '']) => id);
  const waiting = (connection: number) => asked.get(connection) ?? [];

  function dataLeaves(id: string): void {
    if (noted.has(id)) watch.afterAcceptance.push(id);
    if (disturbedAtData.get(id) === disturbances) watch.unprovoked.push(id);
    disturbedAtData.set(id, disturbances);
  }

  const watch = {
    /** Mails whose data left although Redis had answered that it has noted their acceptance. */
    afterAcceptance: [] as string[],
    /** Mails whose data left twice with nobody killed or coming back in between. */
    unprovoked: [] as string[],
    /** Mails whose acceptance was seen to be noted. */
    noted,

    /** Somebody is killed, or is back: data that leaves in between may have gone to nobody. */
    disturbed: (): void => void disturbances++,

    /** @param chunk one that arrives. */
    see({ link, connection, toServer, text }: Chunk): void {
      if (link === 'worker-smtp' && toServer) idsIn(text, DATA).forEach(dataLeaves);
      if (link === 'worker-redis' && toServer) asked.set(connection, [...waiting(connection), ...idsIn(text, NOTE)]);
      if (link === 'worker-redis' && !toServer && EXECUTED.test(text)) {
        for (const id of waiting(connection)) noted.add(id);
        asked.delete(connection);
      }
    },
  };
  return watch;
}
