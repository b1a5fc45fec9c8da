/**
 * ONNX files, as far as a network with its weights needs them. One is a protobuf message, `ModelProto` of onnx.proto,
 * which the field numbers here are of.
 */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { GlnetError } from '../errors';
import { replaceFile } from '../raster/png';
import { elementCount } from './state-dict';

/** What the nodes mean is fixed by the operator set, what the file's fields mean by the version of the format. */
export const opset = 17;
const irVersion = 8;

/** Readers of protobuf messages take no more. */
const maxFileBytes = 2 ** 31 - 1;

/** `TensorProto.DataType`. */
const dataTypes = { float: 1, int64: 7 } as const;
/** `AttributeProto.AttributeType`. */
const attributeTypes = { float: 1, int: 2, string: 3, ints: 7 } as const;

/** A float32 tensor that goes in or comes out; a size that is only known at run time has a name. */
export interface OnnxValue {
  readonly name: string;
  readonly shape: readonly (number | string)[];
}

/** An operator applied. */
export interface OnnxNode {
  readonly op: string;
  /** Names of values; an input that is left out is empty. */
  readonly inputs: readonly string[];
  readonly output: string;
  /** Whole numbers and lists of them are integers, other numbers are float32. */
  readonly attributes?: Readonly<Record<string, number | string | readonly number[]>>;
}

export interface OnnxGraph {
  readonly name: string;
  /** Each after those that it reads from. */
  readonly nodes: readonly OnnxNode[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  /** Lists of integers by name, such as sizes. */
  readonly constants: ReadonlyMap<string, readonly number[]>;
  /** Shapes of the weights, float32, by name. */
  readonly weights: ReadonlyMap<string, readonly number[]>;
}

/** What else is known of a file. */
export interface OnnxDescription {
  readonly producer: { readonly name: string; readonly version: string };
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Writes a graph: beside `path` first, then renamed. One weight at a time is in memory.
 * @param read gives a weight's values, row by row
 * @throws GlnetError ERR_INVALID_ARGUMENT if the file would have more than 2 GB, or a weight other values than its
 *   shape says; ERR_FILE; what `read` throws. Nothing is left of the file then.
 */
export async function writeOnnx(
  path: string,
  graph: OnnxGraph,
  { producer, metadata }: OnnxDescription,
  read: (name: string) => Promise<Float32Array>,
): Promise<void> {
  const weights = Array.from(graph.weights, ([name, shape]) => weightHeader(name, shape));
  const rest = graphFields(graph);
  const graphBytes = weights.reduce((sum, { header, bytes }) => sum + header.length + bytes, rest.length);
  if (graphBytes > maxFileBytes) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${path}: the file would have ${graphBytes} bytes; an ONNX file has ${maxFileBytes} (2 GB) at most`,
    );
  }
  const head = new BinaryWriter();
  integer(head, 1, irVersion);
  text(head, 2, producer.name);
  text(head, 3, producer.version);
  message(head, 8, (operators) => integer(operators, 2, opset));
  for (const [key, value] of Object.entries(metadata)) {
    message(head, 14, (entry) => {
      text(entry, 1, key);
      text(entry, 2, value);
    });
  }
  head.tag(7, WireType.LengthDelimited).uint32(graphBytes);
  await replaceFile(path, undefined, async (file) => {
    await file.writeFile(head.finish());
    for (const { name, header, bytes } of weights) {
      const values = await read(name);
      if (values.byteLength !== bytes) {
        throw new GlnetError(
          'ERR_INVALID_ARGUMENT',
          `${path}: the weight ${name} has ${values.byteLength} bytes; its shape takes ${bytes}`,
        );
      }
      await file.writeFile(header);
      await file.writeFile(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
    await file.writeFile(rest);
  });
}

function integer(writer: BinaryWriter, field: number, value: number): void {
  writer.tag(field, WireType.Varint).int64(value);
}

function text(writer: BinaryWriter, field: number, value: string): void {
  writer.tag(field, WireType.LengthDelimited).string(value);
}

function message(writer: BinaryWriter, field: number, write: (inner: BinaryWriter) => void): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  write(writer);
  writer.join();
}

/**
 * All of a `GraphProto.initializer` but its `raw_data`, which follow. Lengths that a reader would not take are not stated:
 * such a file is refused, and until then they must not stop the writer, which counts to 2^32.
 */
function weightHeader(
  name: string,
  shape: readonly number[],
): { name: string; header: Uint8Array; bytes: number } {
  const bytes = elementCount(shape) * Float32Array.BYTES_PER_ELEMENT;
  const tensor = new BinaryWriter();
  for (const size of shape) integer(tensor, 1, size);
  integer(tensor, 2, dataTypes.float);
  text(tensor, 8, name);
  tensor.tag(9, WireType.LengthDelimited).uint32(Math.min(bytes, maxFileBytes));
  const fields = tensor.finish();
  const outer = new BinaryWriter()
    .tag(5, WireType.LengthDelimited)
    .uint32(Math.min(fields.length + bytes, maxFileBytes));
  return { name, header: outer.raw(fields).finish(), bytes };
}

/** The fields of `GraphProto` without the weights. */
function graphFields({ name, nodes, inputs, outputs, constants }: OnnxGraph): Uint8Array {
  const writer = new BinaryWriter();
  for (const node of nodes) message(writer, 1, () => writeNode(writer, node));
  text(writer, 2, name);
  for (const [constant, values] of constants) {
    message(writer, 5, () => {
      integer(writer, 1, values.length);
      integer(writer, 2, dataTypes.int64);
      for (const value of values) integer(writer, 7, value);
      text(writer, 8, constant);
    });
  }
  for (const input of inputs) message(writer, 11, () => writeValue(writer, input));
  for (const output of outputs) message(writer, 12, () => writeValue(writer, output));
  return writer.finish();
}

function writeNode(writer: BinaryWriter, { op, inputs, output, attributes = {} }: OnnxNode): void {
  for (const input of inputs) text(writer, 1, input);
  text(writer, 2, output);
  text(writer, 3, output);
  text(writer, 4, op);
  for (const [name, value] of Object.entries(attributes)) {
    message(writer, 5, () => {
      text(writer, 1, name);
      if (typeof value === 'string') {
        text(writer, 4, value);
        integer(writer, 20, attributeTypes.string);
      } else if (typeof value !== 'number') {
        for (const item of value) integer(writer, 8, item);
        integer(writer, 20, attributeTypes.ints);
      } else if (Number.isInteger(value)) {
        integer(writer, 3, value);
        integer(writer, 20, attributeTypes.int);
      } else {
        writer.tag(2, WireType.Bit32).float(value);
        integer(writer, 20, attributeTypes.float);
      }
    });
  }
}

/** A `ValueInfoProto`. */
function writeValue(writer: BinaryWriter, { name, shape }: OnnxValue): void {
  text(writer, 1, name);
  message(writer, 2, () =>
    message(writer, 1, () => {
      integer(writer, 1, dataTypes.float);
      message(writer, 2, () => {
        for (const size of shape) {
          message(writer, 1, () =>
            typeof size === 'number' ? integer(writer, 1, size) : text(writer, 2, size),
          );
        }
      });
    }),
  );
}
