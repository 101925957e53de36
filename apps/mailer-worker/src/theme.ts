/** How mails look: the operator's name, colour and logo, and every other colour worked out so that text stays readable on it. */

/** What the operator decides; all of it may be left out. */
export interface Theme {
  /** What the mails call the service; left out: the host of `PUBLIC_URL`. */
  readonly name?: string | undefined;
  /** `#rrggbb`: the button and, where it can be read, links. */
  readonly color?: string | undefined;
  /** An image that is fetched when the mail is opened; left out: the name stands there instead, and nothing is fetched. */
  readonly logoUrl?: string | undefined;
  /** Where a recipient gets help. */
  readonly supportAddress?: string | undefined;
}

const COLOR = '#1d4ed8';

/** Colours of one scheme, `#rrggbb`. */
export interface Palette {
  readonly page: string;
  readonly card: string;
  readonly border: string;
  /** On the page and on the card. */
  readonly text: string;
  /** The small print: on the page. */
  readonly quiet: string;
  /** On the page and on the card. */
  readonly link: string;
  readonly button: string;
  readonly buttonText: string;
}

/** WCAG 2.2, success criterion 1.4.3 (AA), for text of any size. */
export const MIN_CONTRAST = 4.5;

const LIGHT = { page: '#f2f4f6', card: '#ffffff', border: '#d5dae0', text: '#1c2024', quiet: '#4d565f' };
const DARK = { page: '#14171a', card: '#1f2428', border: '#3a4148', text: '#eceef0', quiet: '#b3bac2' };

/** WCAG 2.2, "relative luminance": from 0 (black) to 1 (white). */
function luminance(color: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const channel = Number.parseInt(color.slice(at, at + 2), 16) / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** WCAG 2.2, "contrast ratio" of two colours `#rrggbb`: from 1 to 21. */
export function contrast(one: string, other: string): number {
  const [lighter, darker] = [luminance(one), luminance(other)].sort((a, b) => b - a) as [number, number];
  return (lighter + 0.05) / (darker + 0.05);
}

/** White or black: one of them has a contrast of at least 4.58 to any colour. */
const textOn = (color: string): string => (contrast('#ffffff', color) >= MIN_CONTRAST ? '#ffffff' : '#000000');

/** `share` (0 to 1) of the second colour in the first. */
function mix(color: string, other: string, share: number): string {
  const channels = [1, 3, 5].map((at) => {
    const [from, to] = [color, other].map((each) => Number.parseInt(each.slice(at, at + 2), 16)) as [number, number];
    return Math.round(from + (to - from) * share)
      .toString(16)
      .padStart(2, '0');
  });
  return `#${channels.join('')}`;
}

/** The colour, with as much of the text's colour in it as it takes to be readable. */
function linkColor(color: string, { page, card, text }: typeof LIGHT): string {
  const readable = (link: string) => [page, card].every((ground) => contrast(link, ground) >= MIN_CONTRAST);
  const shares = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
  return shares.map((share) => mix(color, text, share)).find(readable) ?? text;
}

const palette = (color: string, base: typeof LIGHT): Palette => ({
  ...base,
  link: linkColor(color, base),
  button: color,
  buttonText: textOn(color),
});

/** Both schemes of a theme. */
export const palettes = ({ color = COLOR }: Theme) => ({
  light: palette(color, LIGHT),
  dark: palette(color, DARK),
});
