/** What callers type and what must be answered: a reply that does not begin with its screen is a fault. */

export type Step = { input: string; expect: string };

/** The answer of servers that have no menus; as long as the first screen of ours. */
export const FIXED = 'CON Welcome to IXO USSD\n1. Know More\n2. Account Menu\n*. Exit';

export const PIN = '48213';

const WELCOME: Step = { input: '', expect: 'CON Welcome to IXO USSD' };

const DIAL: Step[] = [WELCOME];

/** A dial and four steps in the Know More menus; the third goes back. */
const KNOW_MORE: Step[] = [
  WELCOME,
  { input: '1', expect: 'CON Information Center' },
  { input: '2', expect: 'CON Pricing' },
  { input: '0', expect: 'CON Information Center' },
  { input: '3', expect: 'CON Delivery' },
];

/** From the first screen to the account: two PINs are hashed, the last turn has effects. */
const CREATE: Step[] = [
  WELCOME,
  { input: '2', expect: 'CON Do you have an account?' },
  { input: '2', expect: 'CON Enter your full name' },
  { input: 'Ann Phiri', expect: 'CON Enter your e-mail' },
  { input: '00', expect: 'CON Choose a PIN' },
  { input: PIN, expect: 'CON Enter the same PIN' },
  { input: PIN, expect: 'END Your account is open' },
];

const logIn = (id: string): Step[] => [
  WELCOME,
  { input: '2', expect: 'CON Do you have an account?' },
  { input: '1', expect: 'CON Enter your Customer ID' },
  { input: id, expect: 'CON Enter your PIN' },
  { input: PIN, expect: 'CON Your account' },
];

/** An account of which a caller has the phone and the PIN. */
export type Account = { phone: string; id: string };

/** A session to be walked through; `phone` where it must be a certain one. */
export type Walk = { steps: Step[]; phone?: string };

/** Of a mixed load so many turns belong to log-ins and to accounts that are opened, half of the sessions each. */
const ACCOUNT_TURNS = 0.05;
const ACCOUNT_STEPS = (CREATE.length + logIn('').length) / 2;
/** The same share counted in sessions, because those are what a caller chooses. */
const ACCOUNT_SESSIONS =
  (ACCOUNT_TURNS * KNOW_MORE.length) /
  (ACCOUNT_TURNS * KNOW_MORE.length + (1 - ACCOUNT_TURNS) * ACCOUNT_STEPS);

/** The next session of a caller; `lend` gives an account that nobody else is logging in to, where there is one. */
export const PLANS: Record<Plan, (lend: () => Account | undefined) => Walk> = {
  dial: () => ({ steps: DIAL }),
  walk: () => ({ steps: KNOW_MORE }),
  fixed: () => ({ steps: KNOW_MORE.map(({ input }) => ({ input, expect: WELCOME.expect })) }),
  create: () => ({ steps: CREATE }),
  logIn: (lend) => {
    const account = lend();
    if (account === undefined) throw new Error('nobody to log in');
    return { steps: logIn(account.id), phone: account.phone };
  },
  mixed: (lend) => {
    if (Math.random() > ACCOUNT_SESSIONS) return { steps: KNOW_MORE };
    const account = Math.random() < 0.5 ? lend() : undefined;
    return account === undefined ? { steps: CREATE } : { steps: logIn(account.id), phone: account.phone };
  },
};

export type Plan = 'dial' | 'walk' | 'fixed' | 'create' | 'logIn' | 'mixed';
