/** Ctrl-C: the first one asks the work to stop, the second one ends the process. */

const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const;

export interface Interrupt {
  readonly signal: AbortSignal;
  /** What to exit with, once interrupted. */
  readonly exitCode: number | undefined;
  /** Gives Ctrl-C its usual meaning back. */
  release(): void;
}

/** @param onFirst is called at the first signal, after the abort. */
export function catchInterrupts(onFirst: () => void): Interrupt {
  const controller = new AbortController();
  let exitCode: number | undefined;
  const handle = (name: NodeJS.Signals): void => {
    const code = exitCodes[name as keyof typeof exitCodes];
    if (controller.signal.aborted) process.exit(code);
    exitCode = code;
    controller.abort();
    onFirst();
  };
  for (const name of Object.keys(exitCodes)) process.on(name, handle);
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode;
    },
    release() {
      for (const name of Object.keys(exitCodes)) process.off(name, handle);
    },
  };
}
