/** What the mails say in German. */
import type { MailTexts } from './en.ts';

const linkHint = 'Falls die Schaltfläche nicht funktioniert, kopieren Sie diesen Link in Ihren Browser:';

export const german: MailTexts = {
  tag: 'de',
  footer: (site) => `Diese E-Mail wurde automatisch von ${site} verschickt. Antworten werden nicht gelesen.`,
  support: 'Fragen? Schreiben Sie an',
  activation: (site, validFor) => ({
    subject: `Aktivieren Sie Ihr Konto bei ${site}`,
    heading: 'Aktivieren Sie Ihr Konto',
    intro: `Mit dieser Adresse wurde ein Konto bei ${site} angelegt. Öffnen Sie die folgende Seite und bestätigen Sie, um es freizuschalten.`,
    button: 'Konto aktivieren',
    validity: `Der Link gilt ${validFor} ab dem Versand dieser E-Mail. Ist er abgelaufen, schickt Ihnen die Seite, die er öffnet, einen neuen.`,
    linkHint,
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
    intro: `Jemand wollte sich mit dieser Adresse bei ${site} registrieren oder ein anderes Konto auf sie umstellen. Zu ihr gibt es schon ein Konto; es wurde nichts geändert.`,
    you: 'Das waren Sie? Dann melden Sie sich mit Ihrem bisherigen Passwort an.',
    notYou:
      'Sie waren das nicht? Dann ignorieren Sie diese E-Mail: Es passiert nichts, und wer es versucht hat, hat nicht erfahren, dass Sie ein Konto haben.',
  }),
  password_reset: (site, validFor) => ({
    subject: `Wählen Sie ein neues Passwort für ${site}`,
    heading: 'Wählen Sie ein neues Passwort',
    intro: `Für Ihr Konto bei ${site} wurde ein neues Passwort angefordert. Öffnen Sie die folgende Seite, um eines zu wählen.`,
    button: 'Neues Passwort wählen',
    validity: `Der Link gilt ${validFor} ab dem Versand dieser E-Mail und für ein neues Passwort. Sobald es gesetzt ist, sind Sie auf allen Geräten abgemeldet.`,
    linkHint,
    notYou: 'Sie waren das nicht? Dann ignorieren Sie diese E-Mail: Ihr Passwort bleibt, wie es ist.',
  }),
  password_changed: (site) => ({
    subject: `Ihr Passwort für ${site} wurde geändert`,
    heading: 'Ihr Passwort wurde geändert',
    intro: `Das Passwort Ihres Kontos bei ${site} wurde geändert, andere Geräte wurden abgemeldet.`,
    you: 'Das waren Sie? Dann ist nichts weiter zu tun.',
    notYou: `Sie waren das nicht? Dann hat jemand anderes Zugang zu Ihrem Konto: Fordern Sie bei ${site} sofort ein neues Passwort an.`,
  }),
  email_change: (site, validFor) => ({
    subject: `Bestätigen Sie Ihre neue Adresse für ${site}`,
    heading: 'Bestätigen Sie Ihre neue Adresse',
    intro: `Diese Adresse soll die eines Kontos bei ${site} werden. Öffnen Sie die folgende Seite und bestätigen Sie es.`,
    button: 'Adresse bestätigen',
    validity: `Der Link gilt ${validFor} ab dem Versand dieser E-Mail.`,
    linkHint,
    notYou: 'Sie waren das nicht? Dann ignorieren Sie diese E-Mail: Ohne Ihre Bestätigung ändert sich nichts.',
  }),
  email_change_notice: (site) => ({
    subject: `Eine andere Adresse für Ihr Konto bei ${site}`,
    heading: 'Eine andere Adresse wurde angefordert',
    intro: `Jemand, der Ihr Passwort kennt, hat für Ihr Konto bei ${site} eine andere E-Mail-Adresse angefordert. Sobald die neue Adresse bestätigt ist, gehen E-Mails dorthin und nicht mehr hierher.`,
    you: 'Das waren Sie? Dann öffnen Sie den Link in der E-Mail an die neue Adresse.',
    notYou: 'Sie waren das nicht? Dann ändern Sie sofort Ihr Passwort: Das verhindert auch diese Änderung.',
  }),
  email_changed: (site) => ({
    subject: `Die Adresse Ihres Kontos bei ${site} wurde geändert`,
    heading: 'Ihr Konto hat eine andere Adresse',
    intro: `Die neue E-Mail-Adresse Ihres Kontos bei ${site} wurde bestätigt. Dies ist die letzte E-Mail an diese Adresse.`,
    you: 'Das waren Sie? Dann ist nichts weiter zu tun: Melden Sie sich ab jetzt mit der neuen Adresse an.',
    notYou: `Sie waren das nicht? Dann hat jemand anderes Zugang zu Ihrem Konto: Wenden Sie sich sofort an ${site}.`,
  }),
};
