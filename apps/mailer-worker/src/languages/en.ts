/** What the mails say in English, the language every other locale falls back to. */

/** A mail that only says something: nothing in it to click. */
export interface NoticeTexts {
  readonly subject: string;
  readonly heading: string;
  readonly intro: string;
  /** What to do if it was you. */
  readonly you: string;
  readonly notYou: string;
}

/** A mail with one page to open. */
export interface LinkTexts {
  readonly subject: string;
  readonly heading: string;
  readonly intro: string;
  readonly button: string;
  readonly validity: string;
  readonly linkHint: string;
  readonly notYou: string;
}

/** The texts of one language. `site` is what the service is called, `validFor` a length of time in words. */
export interface MailTexts {
  readonly tag: string;
  readonly footer: (site: string) => string;
  /** Before the address that helps. */
  readonly support: string;
  readonly activation: (site: string, validFor: string) => LinkTexts;
  /** The job `activation` with `several`. */
  readonly several_registrations: (site: string) => NoticeTexts;
  readonly account_exists: (site: string) => NoticeTexts;
  readonly password_reset: (site: string, validFor: string) => LinkTexts;
  readonly password_changed: (site: string) => NoticeTexts;
  readonly email_change: (site: string, validFor: string) => LinkTexts;
  /** The job `email_change` without an attempt. */
  readonly email_change_notice: (site: string) => NoticeTexts;
  readonly email_changed: (site: string) => NoticeTexts;
}

const linkHint = 'If the button does not work, copy this link into your browser:';

export const english: MailTexts = {
  tag: 'en',
  footer: (site) => `This mail was sent automatically by ${site}. Replies are not read.`,
  support: 'Questions? Write to',
  activation: (site, validFor) => ({
    subject: `Activate your account at ${site}`,
    heading: 'Activate your account',
    intro: `This address was used to register at ${site}. To finish, open the page below and confirm.`,
    button: 'Activate account',
    validity: `The link is good for ${validFor} from the moment this mail was sent. If it has expired, the page it opens sends you a new one.`,
    linkHint,
    notYou: 'It was not you? Then ignore this mail: without your confirmation no account opens and nothing happens.',
  }),
  several_registrations: (site) => ({
    subject: `Please register again at ${site}`,
    heading: 'Please register again',
    intro: `A new activation link was asked for at ${site}, but this address was registered more than once, and we cannot tell which registration is yours.`,
    you: 'To be safe, register once more with a password of your choice and use the link in the mail that follows at once. A link you already have from your own registration works too, as long as it is valid.',
    notYou: 'It was not you? Then ignore this mail: nothing happens.',
  }),
  account_exists: (site) => ({
    subject: `You already have an account at ${site}`,
    heading: 'You already have an account',
    intro: `Somebody tried to register at ${site} with this address, or to move another account to it. It already has an account, so nothing has changed.`,
    you: 'It was you? Then log in with the password you have.',
    notYou:
      'It was not you? Then ignore this mail: nothing happens, and whoever tried did not learn that you have an account.',
  }),
  password_reset: (site, validFor) => ({
    subject: `Choose a new password for ${site}`,
    heading: 'Choose a new password',
    intro: `Somebody asked for a new password for your account at ${site}. To choose one, open the page below.`,
    button: 'Choose a new password',
    validity: `The link is good for ${validFor} from the moment this mail was sent, and for one new password. Once it is set, you are logged out on every device.`,
    linkHint,
    notYou: 'It was not you? Then ignore this mail: your password stays as it is.',
  }),
  password_changed: (site) => ({
    subject: `Your password for ${site} was changed`,
    heading: 'Your password was changed',
    intro: `The password of your account at ${site} was changed, and other devices were logged out.`,
    you: 'It was you? Then there is nothing left to do.',
    notYou: `It was not you? Then somebody else has access to your account: ask ${site} for a new password at once.`,
  }),
  email_change: (site, validFor) => ({
    subject: `Confirm your new address for ${site}`,
    heading: 'Confirm your new address',
    intro: `This address is to become the one of an account at ${site}. To finish, open the page below and confirm.`,
    button: 'Confirm address',
    validity: `The link is good for ${validFor} from the moment this mail was sent.`,
    linkHint,
    notYou: 'It was not you? Then ignore this mail: without your confirmation nothing changes.',
  }),
  email_change_notice: (site) => ({
    subject: `Another address for your account at ${site}`,
    heading: 'Another address was asked for',
    intro: `Somebody who knows your password asked for another e-mail address for your account at ${site}. As soon as the new address is confirmed, mail goes there and no longer here.`,
    you: 'It was you? Then open the link in the mail to the new address.',
    notYou: 'It was not you? Then change your password at once: that stops the change too.',
  }),
  email_changed: (site) => ({
    subject: `The address of your account at ${site} was changed`,
    heading: 'Your account has another address',
    intro: `The new e-mail address of your account at ${site} was confirmed. This is the last mail to this one.`,
    you: 'It was you? Then there is nothing left to do: log in with the new address from now on.',
    notYou: `It was not you? Then somebody else has access to your account: get in touch with ${site} at once.`,
  }),
};
