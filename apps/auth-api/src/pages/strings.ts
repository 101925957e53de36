/** What the pages say, in every language they speak. The first language is the one spoken to everybody else. */

/** One page. Without `button` there is nothing left to do on it. */
export interface Text {
  readonly heading: string;
  readonly lead: string;
  readonly note?: string;
  readonly button?: string;
  /** On the button while its request is on its way. */
  readonly busy?: string;
  /** Of the field for a new password, and what makes a good one; only where there is one. */
  readonly passwordLabel?: string;
  readonly passwordHint?: string;
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
  readonly choosePassword: (site: string, time: string) => Text;
  readonly weakPassword: Text;
  readonly passwordSet: (site: string) => Text;
  readonly resetExpired: (site: string) => Text;
  readonly resetUsed: (site: string) => Text;
  readonly resetUnknown: (site: string) => Text;
  readonly confirmAddress: (site: string, time: string) => Text;
  readonly addressConfirmed: (site: string) => Text;
  readonly changeExpired: (site: string) => Text;
  readonly changeUsed: (site: string) => Text;
  readonly changeUnknown: (site: string) => Text;
  readonly limited: (time: string) => Text;
  readonly unavailable: Text;
  readonly invalid: Text;
  readonly failed: Text;
}

const englishPassword = {
  passwordLabel: 'New password',
  passwordHint: 'From 8 to 256 characters, and hard to guess: four unrelated words, for example.',
};

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
  choosePassword: (site, time) => ({
    heading: 'Choose a new password',
    lead: `For your account at ${site}. Once it is set, you are logged out on every device.`,
    note: `This link is good for another ${time}. If you did not ask for it, close this page: your password stays as it is.`,
    button: 'Set password',
    busy: 'Setting…',
    ...englishPassword,
  }),
  weakPassword: {
    heading: 'Choose another password',
    lead: 'That one is too short or too easy to guess. Nothing has changed yet.',
    button: 'Set password',
    busy: 'Setting…',
    ...englishPassword,
  },
  passwordSet: (site) => ({
    heading: 'Your new password is set',
    lead: `You are logged out everywhere. You can now log in at ${site} with the new password.`,
    note: 'You can close this page.',
  }),
  resetExpired: (site) => ({
    heading: 'This link has expired',
    lead: `For your safety a link from ${site} works only for a short time. Ask there for a new one.`,
    note: 'Your password is as it was.',
  }),
  resetUsed: (site) => ({
    heading: 'This link was used',
    lead: `A new password was set with it. You can log in at ${site} with that one.`,
    note: 'It was not you? Then ask for a new password at once.',
  }),
  resetUnknown: (site) => ({
    heading: 'We do not know this link',
    lead: 'It may be incomplete, too old, or replaced by a newer one. Open the link in the latest mail you got from us.',
    note: `If that does not help, ask at ${site} for a new password again.`,
  }),
  confirmAddress: (site, time) => ({
    heading: 'Confirm your new address',
    lead: `Confirm that this address is yours. From then on it is the one of your account at ${site}:`,
    note: `This link is good for another ${time}. If you did not ask for it, close this page: nothing will change.`,
    button: 'Confirm address',
    busy: 'Confirming…',
  }),
  addressConfirmed: (site) => ({
    heading: 'Your address is changed',
    lead: `Thank you. From now on, log in at ${site} with this address:`,
    note: 'You can close this page.',
  }),
  changeExpired: (site) => ({
    heading: 'This link has expired',
    lead: `For your safety a link from ${site} works only for a short time. Change the address there once more to get a new one.`,
    note: 'Your account keeps the address it had.',
  }),
  changeUsed: (site) => ({
    heading: 'Your address is already changed',
    lead: `This link has done its work, and there is nothing left to do here. Log in at ${site} with the new address.`,
    note: 'You can close this page.',
  }),
  changeUnknown: (site) => ({
    heading: 'We do not know this link',
    lead: 'It may be incomplete, too old, or replaced by a newer one. Open the link in the latest mail you got from us.',
    note: `If that does not help, change the address at ${site} once more.`,
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

const germanPassword = {
  passwordLabel: 'Neues Passwort',
  passwordHint: '8 bis 256 Zeichen, schwer zu erraten: zum Beispiel vier Wörter, die nichts miteinander zu tun haben.',
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
  choosePassword: (site, time) => ({
    heading: 'Neues Passwort wählen',
    lead: `Für Ihr Konto bei ${site}. Sobald es gesetzt ist, sind Sie auf allen Geräten abgemeldet.`,
    note: `Dieser Link gilt noch ${time}. Sie haben ihn nicht angefordert? Dann schließen Sie diese Seite: Ihr Passwort bleibt, wie es ist.`,
    button: 'Passwort setzen',
    busy: 'Wird gesetzt…',
    ...germanPassword,
  }),
  weakPassword: {
    heading: 'Wählen Sie ein anderes Passwort',
    lead: 'Dieses ist zu kurz oder zu leicht zu erraten. Es hat sich noch nichts geändert.',
    button: 'Passwort setzen',
    busy: 'Wird gesetzt…',
    ...germanPassword,
  },
  passwordSet: (site) => ({
    heading: 'Ihr neues Passwort ist gesetzt',
    lead: `Sie sind überall abgemeldet. Sie können sich jetzt bei ${site} mit dem neuen Passwort anmelden.`,
    note: 'Sie können diese Seite schließen.',
  }),
  resetExpired: (site) => ({
    heading: 'Dieser Link ist abgelaufen',
    lead: `Zu Ihrer Sicherheit gilt ein Link von ${site} nur kurze Zeit. Fordern Sie dort einen neuen an.`,
    note: 'Ihr Passwort ist, wie es war.',
  }),
  resetUsed: (site) => ({
    heading: 'Dieser Link wurde benutzt',
    lead: `Mit ihm wurde ein neues Passwort gesetzt. Sie können sich bei ${site} damit anmelden.`,
    note: 'Sie waren das nicht? Dann fordern Sie sofort ein neues Passwort an.',
  }),
  resetUnknown: (site) => ({
    heading: 'Wir kennen diesen Link nicht',
    lead: 'Vielleicht ist er unvollständig, zu alt oder durch einen neueren ersetzt. Öffnen Sie den Link in der letzten E-Mail, die Sie von uns erhalten haben.',
    note: `Hilft das nicht, fordern Sie bei ${site} noch einmal ein neues Passwort an.`,
  }),
  confirmAddress: (site, time) => ({
    heading: 'Neue Adresse bestätigen',
    lead: `Bestätigen Sie, dass diese Adresse Ihnen gehört. Dann ist sie die Ihres Kontos bei ${site}:`,
    note: `Dieser Link gilt noch ${time}. Sie haben ihn nicht angefordert? Dann schließen Sie diese Seite: Es ändert sich nichts.`,
    button: 'Adresse bestätigen',
    busy: 'Wird bestätigt…',
  }),
  addressConfirmed: (site) => ({
    heading: 'Ihre Adresse ist geändert',
    lead: `Vielen Dank. Melden Sie sich ab jetzt bei ${site} mit dieser Adresse an:`,
    note: 'Sie können diese Seite schließen.',
  }),
  changeExpired: (site) => ({
    heading: 'Dieser Link ist abgelaufen',
    lead: `Zu Ihrer Sicherheit gilt ein Link von ${site} nur kurze Zeit. Ändern Sie die Adresse dort noch einmal, dann erhalten Sie einen neuen.`,
    note: 'Ihr Konto behält die bisherige Adresse.',
  }),
  changeUsed: (site) => ({
    heading: 'Ihre Adresse ist bereits geändert',
    lead: `Dieser Link hat seinen Dienst getan, hier ist nichts mehr zu tun. Melden Sie sich bei ${site} mit der neuen Adresse an.`,
    note: 'Sie können diese Seite schließen.',
  }),
  changeUnknown: (site) => ({
    heading: 'Wir kennen diesen Link nicht',
    lead: 'Vielleicht ist er unvollständig, zu alt oder durch einen neueren ersetzt. Öffnen Sie den Link in der letzten E-Mail, die Sie von uns erhalten haben.',
    note: `Hilft das nicht, ändern Sie die Adresse bei ${site} noch einmal.`,
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
