/** What an account is made of, wherever it comes from: registration, profile, import. Patterns are for JSON Schema and `RegExp` with flag `u`. */

/**
 * E-mail addresses as Latchkey accepts them: RFC 5321 section 4.1.2 without quoted local parts, address literals and SMTPUTF8: ASCII, a
 * dot-atom of at most 64 octets, and a domain of at least two labels. International domains are given in their A-label (xn--) form.
 * 254: RFC 3696 erratum 1690.
 */
export const EMAIL_PATTERN =
  "^(?=.{3,254}$)(?=[^@]{1,64}@)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\\.)+[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])$";

/** What addresses are compared by. No mail server of note distinguishes case in a local part, and people don't. */
export const emailKey = (email: string): string => email.toLowerCase();

/** No control characters: nothing that could start a header line, end a C string or move a terminal's cursor. */
export const PRINTABLE_PATTERN = '^[^\\u0000-\\u001F\\u007F-\\u009F\\u2028\\u2029\\uD800-\\uDFFF]*$';
/** Characters. */
export const LONGEST_DISPLAY_NAME = 100;

/** BCP 47, the part of its syntax that names a language, a script and a region. */
export const LOCALE_PATTERN = '^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$';
