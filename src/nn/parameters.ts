import { GlnetError } from '../errors';
import type { Tensor } from '../tensor/tensor';

/** The tensors of a network by dotted names, seen from a place in that hierarchy. */
export class Parameters {
  readonly #tensors: ReadonlyMap<string, Tensor>;
  readonly #prefix: string;

  constructor(tensors: ReadonlyMap<string, Tensor>, prefix = '') {
    this.#tensors = tensors;
    this.#prefix = prefix;
  }

  /** The parameters below `name`. */
  at(name: string): Parameters {
    return new Parameters(this.#tensors, `${this.#prefix}${name}.`);
  }

  /** The name of this place, such as `fpn_local.smooth`. */
  get name(): string {
    return this.#prefix.slice(0, -1);
  }

  has(name: string): boolean {
    return this.#tensors.has(this.#prefix + name);
  }

  /** @throws GlnetError ERR_CHECKPOINT if there is no such parameter. */
  get(name: string): Tensor {
    const tensor = this.#tensors.get(this.#prefix + name);
    if (!tensor) throw new GlnetError('ERR_CHECKPOINT', `the weights have no tensor ${this.#prefix}${name}`);
    return tensor;
  }
}
