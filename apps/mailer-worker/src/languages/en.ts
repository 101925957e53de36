/** What the mails say in English, the language every other locale falls back to. */

/** `site` is the host of PUBLIC_URL, `validFor` a length of time in words. */
export const english = {
  tag: 'en',
  footer: (site: string) => `This mail was sent automatically by ${site}. Replies are not read.`,
  activation: (site: string, validFor: string) => ({
    subject: `Activate your account at ${site}`,
    heading: 'Activate your account',
    intro: `This address was used to register at ${site}. To finish, open the page below and confirm.`,
    button: 'Activate account',
    validity: `The link is good for ${validFor} from the moment this mail was sent. If it has expired, the page it opens sends you a new one.`,
    linkHint: 'If the button does not work, copy this link into your browser:',
    notYou: 'It was not you? Then ignore this mail: without your confirmation no account opens and nothing happens.',
  }),
  several_registrations: (site: string) => ({
    subject: `Please register again at ${site}`,
    heading: 'Please register again',
    intro: `A new activation link was asked for at ${site}, but this address was registered more than once, and we cannot tell which registration is yours.`,
    you: 'To be safe, register once more with a password of your choice and use the link in the mail that follows at once. A link you already have from your own registration works too, as long as it is valid.',
    notYou: 'It was not you? Then ignore this mail: nothing happens.',
  }),
  account_exists: (site: string) => ({
    subject: `You already have an account at ${site}`,
    heading: 'You already have an account',
    intro: `Somebody tried to register at ${site} with this address. It already has an account, so no second one was made and nothing has changed.`,
    you: 'It was you? Then log in with the password you have.',
    notYou:
      'It was not you? Then ignore this mail: nothing happens, and whoever tried did not learn that you have an account.',
  }),
};

/** The texts of one language. */
export type MailTexts = typeof english;
