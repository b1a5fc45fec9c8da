import type { DType, Handle } from '../binding';
import { GlnetError } from '../errors';
import type { Device, TensorData } from './device';

/**
 * A block of a device's memory with a shape. Feature maps are NHWC, images and labels HWC and HW, convolution
 * weights OIHW; all contiguous. Dispose of it when done: `using`, {@link dispose}, or {@link Device.scope}.
 */
export class Tensor {
  readonly device: Device;
  readonly shape: readonly number[];
  readonly dtype: DType;
  #handle: Handle | undefined;
  readonly #release: (tensor: Tensor, handle: Handle) => void;

  /** Made by devices only. */
  constructor(
    device: Device,
    handle: Handle,
    shape: readonly number[],
    dtype: DType,
    release: (tensor: Tensor, handle: Handle) => void,
  ) {
    this.device = device;
    this.shape = shape;
    this.dtype = dtype;
    this.#handle = handle;
    this.#release = release;
  }

  /** @throws GlnetError ERR_DISPOSED after {@link dispose}. */
  get handle(): Handle {
    if (this.#handle === undefined) {
      throw new GlnetError(
        'ERR_DISPOSED',
        `a tensor of shape [${this.shape.join(', ')}] was used after its disposal`,
      );
    }
    return this.#handle;
  }

  get disposed(): boolean {
    return this.#handle === undefined;
  }

  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((product, length) => product * length, 1);
  }

  /** Length along a dimension. */
  dim(axis: number): number {
    return this.shape[axis]!;
  }

  /** Another tensor on the same memory, with a life of its own: the memory goes with the last of them. */
  alias(): Tensor {
    return this.device.view(this, 0, this.shape);
  }

  /** Item `index` of the first dimension, [1, …], on the same memory. */
  part(index: number): Tensor {
    const items = this.shape[0]!;
    const shape = [1, ...this.shape.slice(1)];
    return this.device.view(this, index * (this.size / items), shape);
  }

  /** Reads the values, into an array if there is one. */
  data(into?: TensorData): Promise<TensorData> {
    return this.device.download(this, into);
  }

  /** A copy on another device. */
  async to(device: Device): Promise<Tensor> {
    return device.upload(await this.data(), this.shape, this.dtype);
  }

  /** Gives the memory back, in stream order: work that is queued still sees it. Idempotent. */
  dispose(): void {
    if (this.#handle === undefined) return;
    this.#release(this, this.#handle);
    this.#handle = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
