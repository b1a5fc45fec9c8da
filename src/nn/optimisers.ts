/** Optimisers: how parameters follow their gradients. */
import { GlnetError } from '../errors';
import type { Gradient } from '../tensor/autograd';
import type { Device } from '../tensor/device';
import type { Tensor } from '../tensor/tensor';

/** A parameter that is trained. */
export interface Trained {
  readonly name: string;
  readonly tensor: Tensor;
  readonly gradient: Gradient;
  /** Factor on the learning rate of its group; default 1. */
  readonly rate?: number | undefined;
  /** Factor on the weight decay of its group; default 1. */
  readonly decay?: number | undefined;
}

export type OptimiserConfig =
  | {
      readonly type: 'adam';
      /** Default (0.9, 0.999). */
      readonly betas?: readonly [number, number];
      /** Default 1e-8. */
      readonly epsilon?: number;
      /** L2: added to the gradient, times the parameter. */
      readonly weightDecay: number;
    }
  | {
      readonly type: 'sgd';
      /** Default 0.9. */
      readonly momentum?: number;
      readonly nesterov?: boolean;
      readonly weightDecay: number;
    };

/**
 * Adam (Kingma and Ba, ICLR 2015) with L2 decay, or stochastic gradient descent with momentum. One kernel steps all
 * parameters. A parameter that got no gradient stays as it is.
 */
export class Optimiser {
  readonly #config: OptimiserConfig;
  readonly #device: Device;
  readonly #parameters: readonly Trained[];
  /** Running averages of the gradients, and with Adam of their squares, by slot and parameter. */
  readonly #moments = new Map<string, Tensor>();
  #steps = 0;

  constructor(config: OptimiserConfig, device: Device, parameters: readonly Trained[]) {
    this.#config = config;
    this.#device = device;
    this.#parameters = parameters;
  }

  /** Steps taken so far. */
  get steps(): number {
    return this.#steps;
  }

  /** The state, by names such as `first.resnet_global.conv1.weight`. */
  get moments(): ReadonlyMap<string, Tensor> {
    return this.#moments;
  }

  /**
   * Changes the parameters and lets go of their gradients.
   * @param rate the learning rate
   * @param gradientScale factor on the gradients, before the decay
   */
  step(rate: number, gradientScale = 1): void {
    this.#steps += 1;
    const parameters = this.#parameters.filter(({ gradient }) => gradient.value);
    if (parameters.length === 0) return;
    const config = this.#config;
    const common = {
      parameters: parameters.map(({ tensor }) => tensor),
      gradients: parameters.map(({ gradient }) => gradient.value!),
      learningRates: parameters.map((parameter) => rate * (parameter.rate ?? 1)),
      weightDecays: parameters.map((parameter) => config.weightDecay * (parameter.decay ?? 1)),
      gradientScale,
    };
    if (config.type === 'adam') {
      const [beta1, beta2] = config.betas ?? [0.9, 0.999];
      this.#device.run('adam', {
        ...common,
        firstMoments: parameters.map((parameter) => this.#moment('first', parameter)),
        secondMoments: parameters.map((parameter) => this.#moment('second', parameter)),
        beta1,
        beta2,
        epsilon: config.epsilon ?? 1e-8,
        step: this.#steps,
      });
    } else {
      this.#device.run('sgd', {
        ...common,
        momenta: parameters.map((parameter) => this.#moment('momentum', parameter)),
        momentum: config.momentum ?? 0.9,
        nesterov: config.nesterov ?? false,
      });
    }
    for (const { gradient } of parameters) gradient.take()!.dispose();
  }

  /**
   * Goes on where another one was.
   * @param moments by the names of {@link moments}; they belong to this from now on
   */
  restore(steps: number, moments: ReadonlyMap<string, Tensor>): void {
    const names = new Set(this.#parameters.map(({ name }) => name));
    for (const [key, tensor] of moments) {
      const name = key.slice(key.indexOf('.') + 1);
      if (!names.has(name)) {
        throw new GlnetError(
          'ERR_CHECKPOINT',
          `the optimiser's state has ${key}, and no parameter ${name} is trained`,
        );
      }
      this.#moments.set(key, tensor);
    }
    this.#steps = steps;
  }

  dispose(): void {
    for (const tensor of this.#moments.values()) tensor.dispose();
    this.#moments.clear();
  }

  #moment(slot: string, { name, tensor }: Trained): Tensor {
    const key = `${slot}.${name}`;
    let moment = this.#moments.get(key);
    if (!moment) {
      moment = this.#device.zeros(tensor.shape, 'float32');
      this.#moments.set(key, moment);
    }
    return moment;
  }
}
