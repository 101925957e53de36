/** E-mail addresses as Latchkey accepts and compares them. */

/**
 * RFC 5321 section 4.1.2 without quoted local parts, address literals and SMTPUTF8: ASCII, a dot-atom of at most 64 octets, and a
 * domain of at least two labels. International domains are given in their A-label (xn--) form. 254: RFC 3696 erratum 1690.
 */
export const EMAIL_PATTERN =
  "^(?=.{3,254}$)(?=[^@]{1,64}@)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\\.)+[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])$";

/** What addresses are compared by. No mail server of note distinguishes case in a local part, and people don't. */
export const emailKey = (email: string): string => email.toLowerCase();
