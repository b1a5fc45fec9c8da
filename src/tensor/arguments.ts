/** Calls of ops as the addon takes them: numbers in one array, see native/addon/arguments.h. */
import { binding, type DType, type Handle, type Layout, type Ops, type StructLayout } from '../binding';
import { GlnetError } from '../errors';
import { Tensor } from './tensor';

/** An op's number, and how its arguments are written. */
export interface OpLayout {
  readonly name: keyof Ops;
  readonly number: number;
  readonly fields: StructLayout['fields'];
}

let layouts: ReadonlyMap<keyof Ops, OpLayout> | undefined;
let dtypes: readonly DType[] = [];

/** @throws GlnetError ERR_INVALID_ARGUMENT if there is no such op. */
export function layoutOf(op: keyof Ops): OpLayout {
  if (!layouts) {
    const ops = Object.entries(binding().describeOps()) as [keyof Ops, StructLayout][];
    layouts = new Map(ops.map(([name, { fields }], number) => [name, { name, number, fields }]));
    const dtype = layoutOf('cast').fields.find(({ name }) => name === 'dtype')!.type;
    if (dtype.kind === 'name') dtypes = dtype.names as readonly DType[];
  }
  const layout = layouts.get(op);
  if (!layout) throw new GlnetError('ERR_INVALID_ARGUMENT', `there is no op '${op}'`);
  return layout;
}

function wrong(op: string, name: string, expected: string, value: unknown): never {
  throw new GlnetError('ERR_INVALID_ARGUMENT', `${op}: ${name} must be ${expected}, and is ${value}`);
}

/** The array of the calls, one after the other. */
export class CallBuffer {
  #numbers = new Float64Array(1024);
  #length = 0;

  /**
   * Writes the arguments of an op.
   * @throws GlnetError ERR_INVALID_ARGUMENT for types that it does not take, ERR_DISPOSED for a tensor that is gone
   */
  write({ name, fields }: OpLayout, args: object): Float64Array {
    this.#length = 0;
    this.#struct(name, fields, args as Record<string, unknown>);
    return this.#numbers;
  }

  /** Reads the outputs that have taken the arguments' place. */
  outputs<T>(each: (handle: Handle, shape: readonly number[], dtype: DType) => T): T[] {
    const numbers = this.#numbers;
    const outputs: T[] = [];
    let at = 1;
    for (let left = numbers[0]!; left > 0; left--) {
      const shape: number[] = [];
      for (let i = 0; i < numbers[at + 2]!; i++) shape.push(numbers[at + 3 + i]!);
      outputs.push(each(numbers[at] as Handle, shape, dtypes[numbers[at + 1]!]!));
      at += 3 + shape.length;
    }
    return outputs;
  }

  #push(number: number): void {
    if (this.#length === this.#numbers.length) {
      const longer = new Float64Array(2 * this.#length);
      longer.set(this.#numbers);
      this.#numbers = longer;
    }
    this.#numbers[this.#length++] = number;
  }

  #struct(op: string, fields: StructLayout['fields'], values: Readonly<Record<string, unknown>>): void {
    for (let i = 0; i < fields.length; i++) {
      const { name, type } = fields[i]!;
      const value = values[name];
      if (value === undefined || value === null) continue;
      this.#push(i);
      this.#value(op, name, type, value);
    }
    this.#push(-1);
  }

  #value(op: string, name: string, type: Layout, value: unknown): void {
    switch (type.kind) {
      case 'tensor':
        if (!(value instanceof Tensor)) wrong(op, name, 'a tensor', value);
        this.#push(value.handle);
        break;
      case 'number':
        if (typeof value !== 'number') wrong(op, name, 'a number', value);
        this.#push(value);
        break;
      case 'boolean':
        if (typeof value !== 'boolean') wrong(op, name, 'a boolean', value);
        this.#push(Number(value));
        break;
      case 'name': {
        const place = type.names.indexOf(value as string);
        if (place < 0) wrong(op, name, `one of ${type.names.join(', ')}`, value);
        this.#push(place);
        break;
      }
      case 'array':
        if (!Array.isArray(value)) wrong(op, name, 'an array', value);
        this.#push(value.length);
        for (const item of value) this.#value(op, name, type.items, item);
        break;
      case 'struct':
        if (typeof value !== 'object') wrong(op, name, 'an object', value);
        this.#struct(op, type.fields, value as Record<string, unknown>);
    }
  }
}
