// biome-ignore-all lint/suspicious/noVar: what Telerivet's engine runs is only promised to be "based on JavaScript", so ES5.
// biome-ignore-all lint/complexity/useArrowFunction: ES5 has none.
// biome-ignore-all lint/style/useTemplate: ES5 has none.
/**
 * The support service on a Telerivet USSD route, as a Cloud Script API service: four questions, and one request to the
 * gateway where a call back is wanted. How to deploy it: README.md beside this file.
 *
 * Telerivet runs the whole script anew for every screen: nothing outlives a screen but `state.vars`, which stay with the
 * contact even after the session, so they are emptied when it ends and again when the next one begins.
 *
 * Whoever calls may be in danger. Nothing of a caller is logged, no message is sent, and the last screen, which is what
 * stays on the phone, says nothing of what was asked for. A call is promised only where the gateway has said that it
 * has the request.
 */

/** REPLACE both. As they stand no request is taken, and callers are told so. */
var LISTENER_URL = 'https://replace-me.invalid/telerivet/ussd-listener';
var LISTENER_SECRET = 'REPLACE_ME';

/** The session ends with the third answer in a row that is none. */
var MOST_INVALID = 3;
/**
 * A request that failed is made once more where it failed within so many milliseconds: networks end a session whose
 * screen is late. The gateway takes a repeat for the same request.
 */
var RETRY_WITHIN_MS = 3000;

/** By language. At most 160 septets each, in the GSM basic table: of letters with marks that has Ç à è é ì ò ù, so neither ç nor ê. */
var WORDS = {
  1: {
    location_option: 'Where are you?\n1. Dakar\n2. Touba\n3. Thies',
    support_type_option: 'What do you need?\n1. Shelter\n2. Legal\n3. Food & Clothing',
    callback_option: 'May we call you back on this number?\n1. Yes\n2. No',
    ofTwo: 'Please answer 1 or 2.',
    ofThree: 'Please answer 1, 2 or 3.',
    taken: 'Thank you. We have your request. We will call you on this number.',
    declined: 'Thank you. We will not call you. You can dial again at any time.',
    failed: 'Sorry, we could not take your request. Please dial again in a few minutes.',
    gaveUp: 'Sorry, we did not understand. Please dial again when you are ready.',
  },
  2: {
    location_option: 'Dans quelle ville ?\n1. Dakar\n2. Touba\n3. Thiès',
    support_type_option:
      'De quoi avez-vous besoin ?\n1. Un abri\n2. Une aide juridique\n3. Nourriture et habits',
    callback_option: 'Pouvons-nous vous rappeler sur ce numéro ?\n1. Oui\n2. Non',
    ofTwo: 'Répondez par 1 ou 2.',
    ofThree: 'Répondez par 1, 2 ou 3.',
    taken: 'Merci. Nous avons votre demande. Nous vous rappellerons sur ce numéro.',
    declined: 'Merci. Nous ne vous rappellerons pas. Vous pouvez recomposer ce code à tout moment.',
    failed: "Pardon, nous n'avons pas pu prendre votre demande. Recomposez ce code dans quelques minutes.",
    gaveUp: "Pardon, nous n'avons pas compris. Recomposez ce code quand vous voudrez.",
  },
};

/** Until a language is chosen, both. */
var BOTH = {
  language_option: 'Choose your language\nChoisissez votre langue\n1. ENGLISH\n2. FRANÇAIS',
  ofTwo: 'Please answer 1 or 2.\nRépondez par 1 ou 2.',
  gaveUp:
    "Sorry, we did not understand. Please dial again.\nPardon, nous n'avons pas compris. Recomposez ce code.",
};

/** The questions in their order, by the name of what is posted, and how many answers each has. */
var QUESTIONS = ['language_option', 'location_option', 'support_type_option', 'callback_option'];
var ANSWERS = { language_option: 2, location_option: 3, support_type_option: 3, callback_option: 2 };

/** Telerivet calls it where a session begins. */
function main() {
  forget();
  ask('language_option');
}

addInputHandler('language_option', function (input) {
  answer('language_option', input);
});
addInputHandler('location_option', function (input) {
  answer('location_option', input);
});
addInputHandler('support_type_option', function (input) {
  answer('support_type_option', input);
});
addInputHandler('callback_option', function (input) {
  answer('callback_option', input);
});

function answer(question, input) {
  // What was answered before is gone: from the beginning, rather than in no language.
  if (question !== 'language_option' && words() === BOTH) return main();
  var option = optionOf(question, input);
  if (option === 0) return askAgain(question);
  state.vars.invalid = '0';
  state.vars[question] = String(option);
  if (question !== 'callback_option') return ask(QUESTIONS[QUESTIONS.indexOf(question) + 1]);
  if (option === 2) return end(words().declined);
  end(requestCall() ? words().taken : words().failed);
}

/** The number that was typed, or 0 where it is none of the answers. Spaces, and a dot or # behind, are forgiven. */
function optionOf(question, input) {
  var typed = String(input).replace(/\s/g, '').replace(/[.#]$/, '');
  return /^[1-9]$/.test(typed) && Number(typed) <= ANSWERS[question] ? Number(typed) : 0;
}

function askAgain(question) {
  var invalid = (Number(state.vars.invalid) || 0) + 1;
  if (invalid >= MOST_INVALID) return end(words().gaveUp);
  state.vars.invalid = String(invalid);
  ask(question, ANSWERS[question] === 2 ? words().ofTwo : words().ofThree);
}

function ask(question, advice) {
  sayText((advice === undefined ? '' : advice + '\n') + words()[question]);
  promptDigits(question);
}

function end(text) {
  forget();
  sayText(text);
  stopRules();
}

function words() {
  return WORDS[state.vars.language_option] || BOTH;
}

function forget() {
  state.vars.language_option = '';
  state.vars.location_option = '';
  state.vars.support_type_option = '';
  state.vars.callback_option = '';
  state.vars.invalid = '0';
}

/** Whether the gateway has said that it has the request. */
function requestCall() {
  var body = formOf({
    from_number: call.from_number,
    to_number: call.to_number,
    secret: LISTENER_SECRET,
    language_option: state.vars.language_option,
    location_option: state.vars.location_option,
    support_type_option: state.vars.support_type_option,
    callback_option: state.vars.callback_option,
  });
  var began = Date.now();
  var told = post(body);
  if (told === 'again' && Date.now() - began <= RETRY_WITHIN_MS) told = post(body);
  return told === 'taken';
}

/** `again` where a second try may do better: nobody answered, or the gateway was unwell. */
function post(body) {
  var response;
  try {
    response = httpClient.request(LISTENER_URL, {
      method: 'POST',
      headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
      data: body,
    });
  } catch (_error) {
    // What it says is not logged: it may repeat what was sent.
    console.log('listener: no answer');
    return 'again';
  }
  var status = response ? Number(response.status) : 0;
  console.log('listener: ' + status);
  // Anybody between here and the gateway can say 200; only the gateway says this.
  if (status === 200) return String(response.content).replace(/\s/g, '') === 'Success' ? 'taken' : 'refused';
  return status >= 400 && status < 500 ? 'refused' : 'again';
}

function formOf(fields) {
  return Object.keys(fields)
    .map(function (name) {
      return encodeURIComponent(name) + '=' + encodeURIComponent(fields[name]);
    })
    .join('&');
}
