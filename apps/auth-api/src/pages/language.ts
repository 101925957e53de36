/** Which language a page speaks. */
import { type Language, texts } from './strings.ts';

const FALLBACK: Language = 'en';

/** The language of a BCP 47 tag, if the pages speak it: `de-AT` is German. */
function spoken(tag: string): Language | undefined {
  const primary = tag.split('-', 1)[0]?.toLowerCase() ?? '';
  return Object.keys(texts).find((language): language is Language => language === primary);
}

/** The language tags of an `Accept-Language` header, the most wanted first (RFC 9110 section 12.5.4). */
export function acceptedLanguages(header = ''): string[] {
  return header
    .split(',')
    .map((range) => {
      const [tag = '', ...parameters] = range.split(';');
      const weight = parameters
        .map((parameter) => /^\s*q=([01](?:\.\d{0,3})?)\s*$/i.exec(parameter)?.[1])
        .find((q) => q !== undefined);
      return { tag: tag.trim(), weight: weight === undefined ? 1 : Number(weight) };
    })
    .filter(({ weight }) => weight > 0)
    .toSorted((a, b) => b.weight - a.weight)
    .map(({ tag }) => tag);
}

/**
 * The first language that is spoken here, else English.
 * @param known what the person chose before: at registration, or the language of the page whose button was pressed.
 */
export function chooseLanguage(known: string | undefined, acceptLanguage: string | undefined): Language {
  const wishes = [...(known === undefined ? [] : [known]), ...acceptedLanguages(acceptLanguage)];
  return wishes.map(spoken).find((language) => language !== undefined) ?? FALLBACK;
}

const UNITS = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
  ['second', 1],
] as const;

/** A length of time in words, in the largest unit of which there are at least two, rounded up: 90 s is `90 seconds`, 13.2 min `14 minutes`. */
export function inWords(seconds: number, language: Language): string {
  const [unit, length] = UNITS.find(([, candidate]) => seconds >= 2 * candidate) ?? ['second', 1];
  return new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'long' }).format(
    Math.max(1, Math.ceil(seconds / length)),
  );
}
