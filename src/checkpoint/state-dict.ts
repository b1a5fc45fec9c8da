/**
 * Tensors on the host, as checkpoints hold them. Bytes are little-endian, as on every platform that Node.js
 * runs the addon on.
 */

/** Element types that checkpoints may hold, by PyTorch's names. */
export type DType =
  | 'float64'
  | 'float32'
  | 'float16'
  | 'bfloat16'
  | 'int64'
  | 'int32'
  | 'int16'
  | 'int8'
  | 'uint8'
  | 'bool';

/** Bytes of one element. */
export const dtypeBytes: Readonly<Record<DType, number>> = {
  float64: 8,
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int16: 2,
  int8: 1,
  uint8: 1,
  bool: 1,
};

/** What is known of a tensor before its bytes are read. */
export interface TensorInfo {
  readonly dtype: DType;
  /** Sizes, outermost first; empty for a scalar. */
  readonly shape: readonly number[];
}

/** A tensor in host memory: `data` holds its elements row-major, contiguous, little-endian. */
export interface HostTensor extends TensorInfo {
  readonly data: Uint8Array;
}

/** Tensors by name. */
export type StateDict = Map<string, HostTensor>;

/** An open checkpoint whose tensors are read one at a time, each by its own range of the file. */
export interface TensorFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /**
   * Reads one tensor.
   * @throws GlnetError ERR_INVALID_ARGUMENT if there is no such tensor, ERR_CHECKPOINT if the file is cut short,
   * ERR_DISPOSED after `close`.
   */
  read(name: string): Promise<HostTensor>;
  /** Closes the file; may be called again. */
  close(): Promise<void>;
}

/** Product of the sizes: exact, or not a safe integer when it is too large to be one. */
export function elementCount(shape: readonly number[]): number {
  // A zero first: Infinity * 0 is NaN, and [2**53, 2**1000, 0] is empty.
  return shape.includes(0) ? 0 : shape.reduce((product, size) => product * size, 1);
}

/** `(64, 3, 7, 7)`, as in messages. */
export function formatShape(shape: readonly number[]): string {
  return `(${shape.join(', ')})`;
}

/** A float32 tensor of these values; they are not copied. */
export function fromFloat32(shape: readonly number[], values: Float32Array): HostTensor {
  return {
    dtype: 'float32',
    shape,
    data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  };
}

/**
 * The values as float32: float16 and bfloat16 exactly, float64 and integers rounded to the nearest.
 * A float32 tensor that lies aligned in memory is not copied.
 */
export function toFloat32(tensor: HostTensor): Float32Array {
  const { dtype } = tensor;
  const bytes = dtypeBytes[dtype];
  const data = tensor.data.byteOffset % bytes === 0 ? tensor.data : tensor.data.slice();
  const { buffer, byteOffset } = data;
  const length = data.byteLength / bytes;
  switch (dtype) {
    case 'float64':
      return Float32Array.from(new Float64Array(buffer, byteOffset, length));
    case 'float32':
      return new Float32Array(buffer, byteOffset, length);
    case 'float16':
      return halfToFloat32(new Uint16Array(buffer, byteOffset, length));
    case 'bfloat16': {
      const words = new Uint32Array(length);
      const halves = new Uint16Array(buffer, byteOffset, length);
      for (let i = 0; i < length; i++) words[i] = halves[i]! << 16;
      return new Float32Array(words.buffer);
    }
    case 'int64': {
      const values = new BigInt64Array(buffer, byteOffset, length);
      return Float32Array.from({ length }, (_, i) => Number(values[i]));
    }
    case 'int32':
      return Float32Array.from(new Int32Array(buffer, byteOffset, length));
    case 'int16':
      return Float32Array.from(new Int16Array(buffer, byteOffset, length));
    case 'int8':
      return Float32Array.from(new Int8Array(buffer, byteOffset, length));
    case 'uint8':
    case 'bool':
      return Float32Array.from(data);
  }
}

/** The values as float16, rounded to nearest even; what is too large becomes infinite. Half the bytes of float32. */
export function toFloat16(tensor: HostTensor): HostTensor {
  if (tensor.dtype === 'float16') return tensor;
  const halves = Uint16Array.from(toFloat32(tensor), floatToHalf);
  return { dtype: 'float16', shape: tensor.shape, data: new Uint8Array(halves.buffer) };
}

function floatToHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  // Half of the last step above the largest half, and up: the tie goes to the even neighbour, which is infinity.
  if (size >= 65520) return sign | 0x7c00;
  const exponent = Math.max(Math.floor(Math.log2(size)), -14);
  // In steps of the last bit. A double holds the quotient exactly.
  const steps = size / 2 ** (exponent - 10);
  const whole = Math.floor(steps);
  const rest = steps - whole;
  const rounded = whole + (rest > 0.5 || (rest === 0.5 && whole % 2 === 1) ? 1 : 0);
  // A normal number's leading bit adds one to the exponent; so does a carry.
  return sign | (((exponent + 14) << 10) + rounded);
}

function halfToFloat32(halves: Uint16Array): Float32Array {
  const floats = new Float32Array(halves.length);
  const words = new Uint32Array(floats.buffer);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i]!;
    const sign = (half & 0x8000) << 16;
    const exponent = (half >> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0) {
      // Zero and subnormals: fraction * 2^-24 is exact, its sign bit is put back for -0.
      floats[i] = fraction * 2 ** -24;
      words[i]! |= sign;
    } else if (exponent === 0x1f) {
      words[i] = sign | 0x7f800000 | (fraction << 13);
    } else {
      words[i] = sign | ((exponent + 112) << 23) | (fraction << 13);
    }
  }
  return floats;
}
