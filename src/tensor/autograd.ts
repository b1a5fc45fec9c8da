/**
 * Reverse-mode differentiation. While a tape is set on a device, every op that gets a tensor with a gradient records
 * how to pass its own gradient on; {@link Tape.backward} walks the records back, last first, and lets go of what
 * each had saved as soon as it is done with it. What no trained tensor leads to is neither recorded nor saved.
 */
import type { DType } from '../binding';
import { GlnetError } from '../errors';
import { accumulate } from './accumulate';
import type { Device } from './device';
import type { Tensor } from './tensor';

/** The gradient of one tensor, a sum of the contributions of the ops that use it. */
export class Gradient {
  readonly device: Device;
  readonly shape: readonly number[];
  readonly dtype: DType;
  #value: Tensor | undefined;

  constructor(of: Tensor) {
    this.device = of.device;
    this.shape = of.shape;
    this.dtype = of.dtype;
  }

  /** The sum so far; undefined if nothing has come. */
  get value(): Tensor | undefined {
    return this.#value;
  }

  /** Adds a contribution, which belongs to this from now on. */
  add(contribution: Tensor): void {
    if (this.#value) {
      accumulate(this.#value, contribution);
      contribution.dispose();
    } else {
      this.#value = contribution;
    }
  }

  /** For ops that add what has come already to what they compute. */
  replace(compute: (addend: Tensor | undefined) => Tensor): void {
    const before = this.#value;
    this.#value = compute(before);
    before?.dispose();
  }

  /** The sum, at first zeros, for ops that add to it in place. */
  sum(): Tensor {
    this.#value ??= this.device.zeros(this.shape, this.dtype);
    return this.#value;
  }

  /** Hands the sum over, and starts anew. */
  take(): Tensor | undefined {
    const value = this.#value;
    this.#value = undefined;
    return value;
  }
}

/** What an op's record keeps until the walk back. */
export interface Saver {
  /** Keeps a tensor, whatever its maker does with it. */
  keep(tensor: Tensor): Tensor;
  /** For each input, whether its gradient is wanted. */
  readonly wanted: readonly boolean[];
}

/**
 * Passes a gradient on. May hand `dy` itself over to one of the inputs, if it is done with it; otherwise `dy` is
 * disposed of afterwards.
 * @param dy the gradient of the op's output
 * @param inputs where the inputs' gradients go; undefined where none is wanted
 */
export type Backward = (dy: Tensor, inputs: readonly (Gradient | undefined)[]) => void;

interface Entry {
  readonly output: Gradient;
  readonly inputs: readonly (Gradient | undefined)[];
  readonly saved: readonly Tensor[];
  readonly backward: Backward;
}

export class Tape {
  readonly device: Device;
  /** Recompute what lies inside {@link checkpoint} in the walk back, rather than save it. */
  readonly checkpointing: boolean;
  readonly #gradients = new WeakMap<Tensor, Gradient>();
  readonly #entries: Entry[] = [];
  #paused = false;
  #recomputing = false;

  constructor(device: Device, options: { checkpointing?: boolean } = {}) {
    this.device = device;
    this.checkpointing = options.checkpointing ?? false;
  }

  /** Whether a forward pass is repeated for its saved tensors: what it changes must not change twice. */
  get recomputing(): boolean {
    return this.#recomputing;
  }

  /** How many ops are recorded: a place to walk {@link backward} to. */
  get length(): number {
    return this.#entries.length;
  }

  /** Asks for a tensor's gradient. */
  watch(tensor: Tensor): Gradient {
    let gradient = this.#gradients.get(tensor);
    if (!gradient) {
      gradient = new Gradient(tensor);
      this.#gradients.set(tensor, gradient);
    }
    return gradient;
  }

  /** The gradient that a tensor has, if one is wanted of it. */
  gradientOf(tensor: Tensor): Gradient | undefined {
    return this.#gradients.get(tensor);
  }

  /** Runs `body` with this tape on the device. */
  run<T>(body: () => T): T {
    const before = this.device.tape;
    this.device.tape = this;
    try {
      return body();
    } finally {
      this.device.tape = before;
    }
  }

  /** Records an op; see {@link differentiate}. */
  record(output: Tensor, inputs: readonly (Tensor | undefined)[], prepare: (saver: Saver) => Backward): void {
    const gradients = inputs.map((input) => input && this.#gradients.get(input));
    const wanted = gradients.map((gradient) => gradient !== undefined);
    if (!this.#paused && wanted.includes(true)) this.#push(output, gradients, wanted, prepare);
  }

  #push(
    output: Tensor,
    inputs: readonly (Gradient | undefined)[],
    wanted: readonly boolean[],
    prepare: (saver: Saver) => Backward,
  ): void {
    const saved: Tensor[] = [];
    const keep = (tensor: Tensor): Tensor => {
      const alias = tensor.alias();
      this.device.forget(alias);
      saved.push(alias);
      return alias;
    };
    const backward = prepare({ keep, wanted });
    this.#entries.push({ output: this.watch(output), inputs, saved, backward });
  }

  /**
   * Adds to the gradient of a tensor that was computed on this tape: that of a loss, from which the walk back begins.
   * @param gradient belongs to the tape from now on
   */
  seed(tensor: Tensor, gradient: Tensor): void {
    const target = this.#gradients.get(tensor);
    this.device.forget(gradient);
    if (target) target.add(gradient);
    else gradient.dispose();
  }

  /**
   * Walks back over what was recorded after the first `from` ops. Gradients of watched tensors stay, those of
   * intermediate ones are gone.
   */
  backward(from = 0): void {
    const before = this.device.tape;
    this.device.tape = undefined;
    try {
      while (this.#entries.length > from) this.#step(this.#entries.pop()!);
    } finally {
      this.device.tape = before;
    }
  }

  /**
   * With `checkpointing`, runs `body` without saving anything but its inputs, and once more in the walk back.
   * @param body a function of the inputs and of parameters alone
   */
  checkpoint(inputs: readonly Tensor[], body: (...inputs: Tensor[]) => Tensor): Tensor {
    if (!this.checkpointing || this.#paused || this.#recomputing) return body(...inputs);
    let output: Tensor;
    this.#paused = true;
    try {
      output = body(...inputs);
    } finally {
      this.#paused = false;
    }
    const gradients = inputs.map((input) => this.#gradients.get(input));
    this.#push(output, gradients, [], ({ keep }) => {
      const saved = inputs.map(keep);
      return (dy) => {
        const mark = this.#entries.length;
        for (const [i, gradient] of gradients.entries()) {
          if (gradient) this.#gradients.set(saved[i]!, gradient);
        }
        this.#recomputing = true;
        try {
          using again = this.run(() => body(...saved));
          const copy = dy.alias();
          this.device.forget(copy);
          this.seed(again, copy);
        } finally {
          this.#recomputing = false;
        }
        this.backward(mark);
      };
    });
    return output;
  }

  /** Drops what is recorded. Watched tensors keep their gradients. */
  clear(): void {
    for (const { output, saved } of this.#entries.splice(0)) {
      output.take()?.dispose();
      for (const tensor of saved) tensor.dispose();
    }
  }

  #step({ output, inputs, saved, backward }: Entry): void {
    const dy = output.take();
    try {
      if (dy) backward(dy, inputs);
    } finally {
      for (const tensor of saved) tensor.dispose();
      if (dy && !inputs.some((input) => input?.value === dy)) dy.dispose();
    }
  }
}

/**
 * Called by every op that can be differentiated.
 * @param inputs those that a gradient can go to; undefined for optional ones that were not given
 * @param prepare called if the op is recorded; saves what the backward pass needs
 */
export function differentiate(
  output: Tensor,
  inputs: readonly (Tensor | undefined)[],
  prepare: (saver: Saver) => Backward,
): void {
  output.device.tape?.record(output, inputs, prepare);
}

/** For an op without a gradient: an error if one is wanted of it. */
export function refuseGradient(op: string, inputs: readonly Tensor[]): void {
  const tape = inputs[0]!.device.tape;
  if (tape && inputs.some((input) => tape.gradientOf(input))) {
    throw new GlnetError('ERR_INVALID_ARGUMENT', `${op} cannot be differentiated`);
  }
}
