import fc from 'fast-check';

/**
 * fast-check for this suite. A property has ten minutes, for making a failure smaller too: it is told with its seed as
 * it is by then. Without a limit a file can reach its own in the middle, and nothing is told at all. What hangs, or
 * gets fewer runs than it asks for, has failed.
 */
fc.configureGlobal({ interruptAfterTimeLimit: 600_000, markInterruptAsFailure: true });

export default fc;
