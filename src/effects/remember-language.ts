import { rememberLanguage as remember } from '../store/subscribers.ts';
import type { EffectKind } from './effect.ts';

/** `rememberLanguage { language }`: for this session and for the next dial of the caller. */
export const rememberLanguage: EffectKind = {
  commit: ({ language = '' }, { tx, caller }) => remember(tx, caller, language),
};
