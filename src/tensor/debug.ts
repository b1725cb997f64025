let debugging = false;

/**
 * Switches slow checks on or off: recurrent layers then refuse initial states that are not finite, which waits for the
 * device at every call. Off at first.
 */
export function debug(on = true): void {
  debugging = on;
}

/** Whether slow checks are wanted. */
export const isDebugging = (): boolean => debugging;
