/** Results that are handed over while later ones are made. */

/** Hands results over in their order, one after the other; no more than two are on their way at a time. */
export class HandOver {
  #last: Promise<void> = Promise.resolve();
  #lastButOne: Promise<void> = this.#last;
  #failure: { error: unknown } | undefined;
  #stopped = false;

  /** @throws what the making or the handing over of a result has ended with */
  check(): void {
    if (this.#failure) throw this.#failure.error;
  }

  /**
   * Resolves when another may be added.
   * @throws as {@link check}
   */
  async room(): Promise<void> {
    await this.#lastButOne;
    this.check();
  }

  add<T>(made: Promise<T>, give: (result: T) => Promise<void>): void {
    // Awaited later, and lost if this stops before: not an unhandled rejection then.
    made.catch(() => {});
    this.#lastButOne = this.#last;
    this.#last = this.#last.then(async () => {
      const result = await made;
      if (!this.#stopped) await give(result);
    });
    this.#last.catch((error) => {
      this.#failure ??= { error };
    });
  }

  /**
   * Resolves when all is handed over.
   * @throws as {@link check}
   */
  end(): Promise<void> {
    return this.#last;
  }

  /** Lets nothing more be handed over; resolves when what is being handed over is. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#last.catch(() => {});
  }
}
