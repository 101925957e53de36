/** What the mails say in German. */
import type { MailTexts } from './en.ts';

export const german: MailTexts = {
  tag: 'de',
  footer: (site) => `Diese E-Mail wurde automatisch von ${site} verschickt. Antworten werden nicht gelesen.`,
  activation: (site, validFor) => ({
    subject: `Aktivieren Sie Ihr Konto bei ${site}`,
    heading: 'Aktivieren Sie Ihr Konto',
    intro: `Mit dieser Adresse wurde ein Konto bei ${site} angelegt. Öffnen Sie die folgende Seite und bestätigen Sie, um es freizuschalten.`,
    button: 'Konto aktivieren',
    validity: `Der Link gilt ${validFor} ab dem Versand dieser E-Mail. Ist er abgelaufen, schickt Ihnen die Seite, die er öffnet, einen neuen.`,
    linkHint: 'Falls die Schaltfläche nicht funktioniert, kopieren Sie diesen Link in Ihren Browser:',
    notYou:
      'Sie waren das nicht? Dann ignorieren Sie diese E-Mail: Ohne Ihre Bestätigung wird kein Konto freigeschaltet, und es passiert nichts.',
  }),
  account_exists: (site) => ({
    subject: `Sie haben bereits ein Konto bei ${site}`,
    heading: 'Sie haben bereits ein Konto',
    intro: `Jemand wollte sich mit dieser Adresse bei ${site} registrieren. Zu ihr gibt es schon ein Konto; es wurde kein zweites angelegt und nichts geändert.`,
    you: 'Das waren Sie? Dann melden Sie sich mit Ihrem bisherigen Passwort an.',
    notYou:
      'Sie waren das nicht? Dann ignorieren Sie diese E-Mail: Es passiert nichts, und wer es versucht hat, hat nicht erfahren, dass Sie ein Konto haben.',
  }),
};
