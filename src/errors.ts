/**
 * Errors of the package. Every error that reaches a user is a {@link GlnetError} with a stable `code`; test for
 * the code, not the message or the class.
 */

/** What went wrong, in a word that stays the same between versions. */
export type GlnetErrorCode =
  /** An argument has the wrong type, shape or range. */
  | 'ERR_INVALID_ARGUMENT'
  /** A file is missing, unreadable, truncated or not what its name says. */
  | 'ERR_FILE'
  /** An image cannot be decoded, or is larger than the limits allow. */
  | 'ERR_IMAGE'
  /** A checkpoint is malformed, unsafe, or does not fit the network. */
  | 'ERR_CHECKPOINT'
  /** The device has no memory left under its limit. */
  | 'ERR_OUT_OF_MEMORY'
  /** A tensor, model or device was used after it was disposed of. */
  | 'ERR_DISPOSED'
  /** A loss or a gradient is not finite. */
  | 'ERR_DIVERGED'
  /** The native addon could not be loaded, or has no such device. */
  | 'ERR_NATIVE'
  /** The work was stopped by its AbortSignal. */
  | 'ERR_ABORTED';

/** The one error class of the package; `code` says what kind, `cause` what was underneath. */
export class GlnetError extends Error {
  override readonly name: string = 'GlnetError';

  constructor(
    readonly code: GlnetErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Stopped by an AbortSignal. Named `AbortError`, as the platform's own are. */
export class AbortError extends GlnetError {
  override readonly name = 'AbortError';

  constructor(message = 'The operation was aborted', options?: ErrorOptions) {
    super('ERR_ABORTED', message, options);
  }
}

/** @throws AbortError with the signal's reason as its cause, if it is aborted. */
export function checkAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortError(undefined, { cause: signal.reason });
}
