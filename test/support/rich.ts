import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EFFECTS, MESSAGES } from '../../src/effects/effect.ts';
import type { Known } from '../../src/flow/plan.ts';
import { SHAPES } from '../../src/services/facts.ts';

/** What the rich document may name. */
export const RICH_KNOWN: Known = {
  facts: {
    loans: { values: { name: 12, kind: 6, left: 8 }, rows: 12 },
    terms: { values: { due: 10, rate: 5 } },
    owner: { values: { name: 30 } },
    sms: { values: { room: 3 } },
  },
  messages: MESSAGES,
  effects: { ...EFFECTS, repay: ['loan', 'amount'], send: ['to', 'note'] },
};

/** A document that uses every word of the vocabulary. */
export const RICH = `
service: rich
languages: [en, fr]
root: start
budget: 182
resume: 600
invalid: { en: "Not a choice. Reply with one of:", fr: "Choix inconnu. Tapez:" }
farewell: { en: Too many wrong answers. Please dial again., fr: Trop d'erreurs. Recomposez le code. }
keys: { home: H, more: n, previous: P }
more: { en: Next, fr: Suite }
previous: { en: Before, fr: Avant }
carrierKeys: [98, 99, "00"]
nodes:
  start:
    choose: { en: "Hello {owner.name}", fr: "Bonjour {owner.name}" }
    options:
      - { key: 1, label: { en: Loans, fr: Crédits }, to: loans }
      - { key: 2, label: { en: Send money, fr: Envoyer }, to: sendTo }
      - { key: 3, label: { en: Change PIN, fr: Changer le PIN }, to: newPin }
      - { key: L, label: { en: Language, fr: Langue }, to: language }
      - { key: 5, label: { en: Terms, fr: Conditions }, to: terms }
      - { key: 6, label: { en: Plans, fr: Offres }, to: plans }
      - { key: "*", label: { en: Exit, fr: Quitter }, to: exit }

  loans:
    list: { en: Your loans, fr: Vos crédits }
    from: loans
    label: { en: "{row.name} {row.left|money:KES}", fr: "{row.name} {row.left|money:KES}" }
    per: 4
    set: { loan: "{row.name}", kind: "{row.kind}", left: "{row.left}" }
    to:
      - { when: { kind: school }, to: school }
      - { when: { kind: car, language: fr }, to: car }
      - { to: loan }
    more: { key: 8, label: { en: More loans, fr: Autres crédits } }
    previous: { key: 9, label: { en: Loans before, fr: Crédits avant } }
    empty: { en: You have no loan., fr: Vous n'avez pas de crédit. }
    options:
      - { key: 0, label: { en: Back, fr: Retour }, to: back }
      - { key: "*", label: { en: Exit, fr: Quitter }, to: exit }

  school:
    say: { en: "{loan} is a school loan.", fr: "{loan} est un crédit d'études." }
    options:
      - { key: 1, label: { en: Go on, fr: Continuer }, to: loan }
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  car:
    say: { en: "{loan} is a car loan.", fr: "{loan} est un crédit auto." }
    options:
      - { key: 1, label: { en: Go on, fr: Continuer }, to: loan }

  loan:
    choose:
      en: |-
        {loan}: {left|money:KES}
        due {terms.due|date}
      fr: |-
        {loan}: {left|money:KES}
        pour le {terms.due|date}
    facts: [sms]
    options:
      - { key: 1, label: { en: Repay, fr: Rembourser }, to: amount }
      - key: 2
        label: { en: Tell me by SMS, fr: Par SMS }
        to:
          - { when: { sms.room: "no" }, to: noSms }
          - to: told
            effects: [{ sms: { text: { en: "You owe {left|money:KES}.", fr: "Vous devez {left|money:KES}." } } }]
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  noSms:
    say: { en: No more SMS today., fr: Plus de SMS aujourd'hui. }
    options:
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  told:
    end: { en: The SMS is on its way., fr: Le SMS est en route. }

  amount:
    ask: { en: How much of it?, fr: Combien? }
    answer: { kind: amount, min: 10, max: 70000 }
    save: amount
    invalid: { en: From 10 to 70000., fr: De 10 à 70000. }
    to: confirm
    options:
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  confirm:
    choose: { en: "Repay {amount|money:KES} of {loan}?", fr: "Rembourser {amount|money:KES} de {loan}?" }
    options:
      - { key: 1, label: { en: "Yes", fr: Oui }, to: pin }
      - { key: 0, label: { en: Back, fr: Retour }, to: back }
      - { key: "*", label: { en: Exit, fr: Quitter }, to: exit }

  pin:
    ask: { en: Your PIN, fr: Votre PIN }
    answer: { kind: pin }
    invalid: { en: Five digits., fr: Cinq chiffres. }
    to:
      - { when: { verdict: right }, to: paid, effects: [{ logIn: {} }, { repay: { loan: "{loan}", amount: "{amount}" } }] }
      - { when: { verdict: change }, to: newPin, effects: [{ logIn: {} }] }
      - { when: { verdict: locked }, to: locked }
      - { to: pin, invalid: { en: That is not your PIN., fr: Ce n'est pas votre PIN. } }
    options:
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  paid:
    say: { en: "Paid {amount|money:KES} for {loan}.", fr: "Payé {amount|money:KES} pour {loan}." }
    options:
      - { key: 0, label: { en: Home, fr: Accueil }, to: home }
      - { key: "*", label: { en: Exit, fr: Quitter }, to: exit }

  locked:
    end: { en: Too many tries., fr: Trop de tentatives. }

  sendTo:
    ask: { en: To which phone?, fr: Vers quel mobile? }
    answer: { kind: phone }
    save: other
    to: sendNote
    options:
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  sendNote:
    ask: { en: A note of 2 to 20 characters, fr: Un mot de 2 à 20 signes }
    answer: { kind: text, min: 2, max: 20 }
    save: note
    to: sendName
    options:
      - { key: x, label: { en: Without, fr: Sans }, to: sendName, set: { note: "(-)" } }
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  sendName:
    ask: { en: Whose phone is it?, fr: Le nom? }
    answer: { kind: name, max: 30 }
    save: who
    to: sendMail
    options:
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  sendMail:
    ask: { en: An e-mail address, fr: Une adresse e-mail }
    answer: { kind: email, max: 40 }
    save: mail
    to: sendCode
    options:
      - { key: "1", label: { en: Skip, fr: Passer }, to: sendCode, set: { mail: "" } }
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  sendCode:
    ask: { en: The code of the shop, fr: Le code de la boutique }
    answer: { kind: pattern, pattern: "[A-Z]{2}\\\\d{4}", sample: AB1234, max: 6 }
    save: code
    to:
      - { when: { code: ZZ0000 }, to: sendCode, invalid: { en: That shop has closed., fr: Boutique fermée. } }
      - { to: sendDays }
    options:
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  sendDays:
    ask: { en: In how many days?, fr: Dans combien de jours? }
    answer: { kind: integer, min: 1, max: 30 }
    save: days
    to: sendId
    options:
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  sendId:
    ask: { en: The Customer ID, fr: L'ID client }
    answer: { kind: customerId }
    save: customerId
    to: sendAll
    options:
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  sendAll:
    say:
      en: |-
        To {who} on {other|masked}, in {days|number} days.
        {note}
        {mail}
        {code} {customerId} at {terms.rate} per cent
      fr: |-
        A {who} sur {other|masked}, dans {days|number} jours.
        {note}
        {mail}
        {code} {customerId} à {terms.rate} pour cent
    options:
      - { key: 1, label: { en: Send, fr: Envoyer }, to: [{ to: sent, effects: [{ send: { to: "{other}", note: "{note}" } }] }] }
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  sent:
    end: { en: "Sent to {who}.", fr: "Envoyé à {who}." }

  newPin:
    ask: { en: A new PIN of 5 digits, fr: Un nouveau PIN à 5 chiffres }
    answer: { kind: newPin }
    save: pin
    to:
      - { when: { verdict: good }, to: again }
      - { to: newPin, invalid: { en: Easy to guess., fr: Facile à deviner. } }
    options:
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  again:
    ask: { en: The same again, fr: Le PIN encore }
    answer: { kind: pinAgain, of: pin }
    to:
      - { when: { verdict: different }, to: newPin, invalid: { en: Not the same., fr: Différents. } }
      - { to: pinChanged, effects: [{ changePin: { pin: "{pin}" } }] }

  pinChanged:
    end: { en: Your PIN is changed., fr: Votre PIN est changé. }

  language:
    choose: { en: Language, fr: Langue }
    options:
      - { key: 1, label: English, to: [{ to: start, effects: [{ rememberLanguage: { language: en } }] }] }
      - { key: 2, label: Français, to: [{ to: start, effects: [{ rememberLanguage: { language: fr } }] }] }
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  terms:
    say:
      en: |-
        Whoever takes a loan pays it back within the time that was agreed, with the interest that was shown before, and without any fee that was not.

        A payment counts on the day on which it reaches us. Ask the support where anything is not clear to you.
      fr: |-
        Qui prend un crédit le rembourse dans le délai convenu, avec l'intérêt montré avant, et sans frais que personne n'aurait annoncés.

        Un paiement compte le jour où il nous parvient. Demandez au service client ce qui n'est pas clair.
    options:
      - { key: 0, label: { en: Back, fr: Retour }, to: back }
      - { key: "*", label: { en: Exit, fr: Quitter }, to: exit }

  plans:
    choose: { en: Which plan is for you?, fr: Quelle offre? }
    options:
      - { key: 1, label: { en: A little every week, fr: Un peu chaque semaine }, to: planned, set: { plan: weekly } }
      - { key: 2, label: { en: Something every month, fr: Quelque chose par mois }, to: planned, set: { plan: monthly } }
      - { key: 3, label: { en: All of it after the harvest, fr: Tout après la récolte }, to: planned, set: { plan: harvest } }
      - { key: 4, label: { en: Half now and half in June, fr: Moitié maintenant puis en juin }, to: planned, set: { plan: halves } }
      - { key: 5, label: { en: From the wages of each month, fr: Sur le salaire de chaque mois }, to: planned, set: { plan: wages } }
      - { key: 6, label: { en: Somebody else pays it, fr: "Quelqu'un d'autre" }, to: planned, set: { plan: "for {owner.name}" } }
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  planned:
    choose: { en: "Plan {plan}. Is that right?", fr: "Offre {plan}. C'est bon?" }
    options:
      - key: 1
        label: { en: "Yes", fr: Oui }
        to:
          - { when: { plan: harvest }, to: harvest }
          - { when: { plan: halves, terms.rate: "5" }, to: halves }
          - { to: exit }
      - { key: 0, label: { en: Back, fr: Retour }, to: back }

  harvest:
    end: { en: We wish you a good harvest., fr: Bonne récolte. }

  halves:
    end: { en: Half and half it is., fr: Moitié-moitié. }

  exit:
    end: { en: Thank you. Goodbye., fr: Merci et à bientôt. }
`;

/** Services that run, as they are written. */
export const IXO = documentOf('ixo');
export const DEMO = documentOf('demo');

function documentOf(service: string): string {
  return readFileSync(join(import.meta.dirname, '..', '..', 'src', 'services', service, 'menu.yaml'), 'utf8');
}

export const IXO_KNOWN: Known = { facts: SHAPES.ixo ?? {}, effects: EFFECTS };
export const DEMO_KNOWN: Known = { facts: {}, effects: EFFECTS };
