import fc from 'fast-check';

/**
 * fast-check for this suite. A failure is made smaller for ten minutes at the most, and told with its seed as it is
 * by then: without a limit a file can reach its own in the middle, and nothing is told at all.
 */
fc.configureGlobal({ interruptAfterTimeLimit: 600_000 });

export default fc;
