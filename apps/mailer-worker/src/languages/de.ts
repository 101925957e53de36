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
  several_registrations: (site) => ({
    subject: `Bitte registrieren Sie sich noch einmal bei ${site}`,
    heading: 'Bitte registrieren Sie sich noch einmal',
    intro: `Bei ${site} wurde ein neuer Aktivierungslink angefordert. Diese Adresse wurde aber mehrmals registriert, und wir wissen nicht, welche Registrierung Ihre ist.`,
    you: 'Registrieren Sie sich zur Sicherheit noch einmal mit einem Passwort Ihrer Wahl und benutzen Sie den Link aus der E-Mail, die sofort darauf folgt. Auch ein Link, den Sie schon von Ihrer eigenen Registrierung haben, funktioniert, solange er gilt.',
    notYou: 'Sie waren das nicht? Dann ignorieren Sie diese E-Mail: Es passiert nichts.',
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
