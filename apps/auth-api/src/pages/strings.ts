/** What the pages say, in every language they speak. The first language is the one spoken to everybody else. */

/** One page. Without `button` there is nothing left to do on it. */
export interface Text {
  readonly heading: string;
  readonly lead: string;
  readonly note?: string;
  readonly button?: string;
  /** On the button while its request is on its way. */
  readonly busy?: string;
}

/** `site` is the host of PUBLIC_URL, `time` a length of time in words. */
export interface Texts {
  readonly pending: (site: string, time: string) => Text;
  readonly activated: (site: string) => Text;
  readonly expired: (site: string) => Text;
  readonly renewed: Text;
  readonly used: (site: string) => Text;
  readonly superseded: Text;
  readonly unknown: (site: string) => Text;
  readonly limited: (time: string) => Text;
  readonly unavailable: Text;
  readonly invalid: Text;
  readonly failed: Text;
}

const english: Texts = {
  pending: (site, time) => ({
    heading: 'Activate your account',
    lead: `Confirm that this address is yours, and your account at ${site} is ready to use:`,
    note: `This link is good for another ${time}. If you did not register, close this page: nothing will happen.`,
    button: 'Activate account',
    busy: 'Activating…',
  }),
  activated: (site) => ({
    heading: 'Your account is active',
    lead: `Thank you. You can now log in at ${site} with this address and your password:`,
    note: 'You can close this page.',
  }),
  expired: (site) => ({
    heading: 'This link has expired',
    lead: `For your safety a link from ${site} works only for a short time. Nothing is lost: a new one goes to the same address with one click.`,
    button: 'Send a new link',
    busy: 'Sending…',
  }),
  renewed: {
    heading: 'A new link is on its way',
    lead: 'Look into your mailbox: the new link goes to the address you registered with, and replaces the one you opened.',
    note: 'It can take a minute. If it does not come, look among the spam. You can close this page.',
  },
  used: (site) => ({
    heading: 'Your account is already active',
    lead: `This link has done its work, and there is nothing left to do here. You can log in at ${site} with your address and password.`,
    note: 'You can close this page.',
  }),
  superseded: {
    heading: 'There is a newer link',
    lead: 'A newer mail has replaced this link. Open the link in the latest mail you got from us.',
    note: 'It can take a minute. If it does not come, look among the spam. You can close this page.',
  },
  unknown: (site) => ({
    heading: 'We do not know this link',
    lead: 'It may be incomplete, or too old. Open it from the mail once more, or copy the whole link into the address bar.',
    note: `If that does not help, register at ${site} again, or ask there for a new mail.`,
  }),
  limited: (time) => ({
    heading: 'Too many tries',
    lead: `Please wait ${time}, then try again.`,
    note: 'Nothing is lost: your link is as good as it was.',
    button: 'Try again',
    busy: 'Trying again…',
  }),
  unavailable: {
    heading: 'One moment, please',
    lead: 'We cannot do this right now. Please try again in a moment.',
    note: 'Nothing is lost: your link is as good as it was.',
    button: 'Try again',
    busy: 'Trying again…',
  },
  invalid: {
    heading: 'That did not work',
    lead: 'Your browser sent something we do not understand. Please open the page again, and use its button.',
    button: 'Open the page again',
  },
  failed: {
    heading: 'Something went wrong here',
    lead: 'It is our fault, not yours. Please try again in a moment.',
    button: 'Try again',
    busy: 'Trying again…',
  },
};

const german: Texts = {
  pending: (site, time) => ({
    heading: 'Konto aktivieren',
    lead: `Bestätigen Sie, dass diese Adresse Ihnen gehört, dann ist Ihr Konto bei ${site} bereit:`,
    note: `Dieser Link gilt noch ${time}. Sie haben sich nicht registriert? Dann schließen Sie diese Seite: Es passiert nichts.`,
    button: 'Konto aktivieren',
    busy: 'Wird aktiviert…',
  }),
  activated: (site) => ({
    heading: 'Ihr Konto ist aktiv',
    lead: `Vielen Dank. Sie können sich jetzt bei ${site} mit dieser Adresse und Ihrem Passwort anmelden:`,
    note: 'Sie können diese Seite schließen.',
  }),
  expired: (site) => ({
    heading: 'Dieser Link ist abgelaufen',
    lead: `Zu Ihrer Sicherheit gilt ein Link von ${site} nur kurze Zeit. Es ist nichts verloren: Ein Klick schickt einen neuen an dieselbe Adresse.`,
    button: 'Neuen Link schicken',
    busy: 'Wird geschickt…',
  }),
  renewed: {
    heading: 'Ein neuer Link ist unterwegs',
    lead: 'Sehen Sie in Ihr Postfach: Der neue Link geht an die Adresse, mit der Sie sich registriert haben, und ersetzt den bisherigen.',
    note: 'Das kann eine Minute dauern. Kommt nichts an, sehen Sie im Spam-Ordner nach. Sie können diese Seite schließen.',
  },
  used: (site) => ({
    heading: 'Ihr Konto ist bereits aktiv',
    lead: `Dieser Link hat seinen Dienst getan, hier ist nichts mehr zu tun. Sie können sich bei ${site} mit Ihrer Adresse und Ihrem Passwort anmelden.`,
    note: 'Sie können diese Seite schließen.',
  }),
  superseded: {
    heading: 'Es gibt einen neueren Link',
    lead: 'Eine neuere E-Mail hat diesen Link ersetzt. Öffnen Sie den Link in der letzten E-Mail, die Sie von uns erhalten haben.',
    note: 'Das kann eine Minute dauern. Kommt nichts an, sehen Sie im Spam-Ordner nach. Sie können diese Seite schließen.',
  },
  unknown: (site) => ({
    heading: 'Wir kennen diesen Link nicht',
    lead: 'Vielleicht ist er unvollständig oder zu alt. Öffnen Sie ihn noch einmal aus der E-Mail, oder kopieren Sie den ganzen Link in die Adresszeile.',
    note: `Hilft das nicht, registrieren Sie sich bei ${site} noch einmal, oder fordern Sie dort eine neue E-Mail an.`,
  }),
  limited: (time) => ({
    heading: 'Zu viele Versuche',
    lead: `Bitte warten Sie ${time}, und versuchen Sie es dann noch einmal.`,
    note: 'Es ist nichts verloren: Ihr Link gilt weiter wie zuvor.',
    button: 'Noch einmal versuchen',
    busy: 'Neuer Versuch…',
  }),
  unavailable: {
    heading: 'Einen Moment, bitte',
    lead: 'Das geht gerade nicht. Bitte versuchen Sie es gleich noch einmal.',
    note: 'Es ist nichts verloren: Ihr Link gilt weiter wie zuvor.',
    button: 'Noch einmal versuchen',
    busy: 'Neuer Versuch…',
  },
  invalid: {
    heading: 'Das hat nicht geklappt',
    lead: 'Ihr Browser hat etwas geschickt, das wir nicht verstehen. Bitte öffnen Sie die Seite noch einmal, und benutzen Sie ihre Schaltfläche.',
    button: 'Seite noch einmal öffnen',
  },
  failed: {
    heading: 'Hier ist etwas schiefgegangen',
    lead: 'Das liegt an uns, nicht an Ihnen. Bitte versuchen Sie es gleich noch einmal.',
    button: 'Noch einmal versuchen',
    busy: 'Neuer Versuch…',
  },
};

export const texts = { en: english, de: german } as const;

/** The primary subtag of BCP 47, as in `<html lang>`. */
export type Language = keyof typeof texts;
