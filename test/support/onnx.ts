/** Reads ONNX files back, by the field numbers of onnx.proto; knows nothing of how they were written. */
import { readFileSync } from 'node:fs';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

interface DecodedValue {
  name: string;
  type: number;
  shape: (number | string)[];
}
interface DecodedNode {
  op: string;
  name: string;
  inputs: string[];
  outputs: string[];
  attributes: Record<string, number | string | number[]>;
}
interface DecodedTensor {
  shape: number[];
  /** 1 is float32, 7 is int64. */
  type: number;
  values: number[];
}
export interface DecodedModel {
  irVersion: number;
  producer: string;
  opset: number;
  metadata: Record<string, string>;
  name: string;
  nodes: DecodedNode[];
  initialisers: Record<string, DecodedTensor>;
  inputs: DecodedValue[];
  outputs: DecodedValue[];
}

type Fields = Map<number, (number | Uint8Array)[]>;

/** The fields of a message by their number: integers, float32, and the bytes of all that has a length. */
function fieldsOf(bytes: Uint8Array): Fields {
  const fields: Fields = new Map();
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    let value: number | Uint8Array;
    if (type === WireType.Varint) value = Number(reader.int64());
    else if (type === WireType.Bit32) value = reader.float();
    else if (type === WireType.LengthDelimited) value = reader.bytes();
    else throw new Error(`field ${number} has wire type ${type}`);
    fields.set(number, [...(fields.get(number) ?? []), value]);
  }
  return fields;
}

const numbers = (fields: Fields, number: number) => (fields.get(number) ?? []) as number[];
const messages = (fields: Fields, number: number) =>
  ((fields.get(number) ?? []) as Uint8Array[]).map(fieldsOf);
const texts = (fields: Fields, number: number) =>
  ((fields.get(number) ?? []) as Uint8Array[]).map((bytes) => Buffer.from(bytes).toString());
const text = (fields: Fields, number: number) => texts(fields, number)[0]!;

function decodeAttribute(fields: Fields): [string, number | string | number[]] {
  const values: Record<number, () => number | string | number[]> = {
    1: () => numbers(fields, 2)[0]!,
    2: () => numbers(fields, 3)[0]!,
    3: () => text(fields, 4),
    7: () => numbers(fields, 8),
  };
  return [text(fields, 1), values[numbers(fields, 20)[0]!]!()];
}

function decodeTensor(fields: Fields): [string, DecodedTensor] {
  const raw = fields.get(9)?.[0] as Uint8Array | undefined;
  const values = raw ? [...new Float32Array(Uint8Array.from(raw).buffer)] : numbers(fields, 7);
  return [text(fields, 8), { shape: numbers(fields, 1), type: numbers(fields, 2)[0]!, values }];
}

function decodeValue(fields: Fields): DecodedValue {
  const [tensor] = messages(messages(fields, 2)[0]!, 1) as [Fields];
  const dimensions = messages(messages(tensor, 2)[0]!, 1);
  const shape = dimensions.map((size) => numbers(size, 1)[0] ?? text(size, 2));
  return { name: text(fields, 1), type: numbers(tensor, 1)[0]!, shape };
}

export function readOnnx(path: string): DecodedModel {
  const model = fieldsOf(readFileSync(path));
  const [graph] = messages(model, 7) as [Fields];
  return {
    irVersion: numbers(model, 1)[0]!,
    producer: `${text(model, 2)} ${text(model, 3)}`,
    opset: numbers(messages(model, 8)[0]!, 2)[0]!,
    metadata: Object.fromEntries(messages(model, 14).map((entry) => [text(entry, 1), text(entry, 2)])),
    name: text(graph, 2),
    nodes: messages(graph, 1).map((node) => ({
      op: text(node, 4),
      name: text(node, 3),
      inputs: texts(node, 1),
      outputs: texts(node, 2),
      attributes: Object.fromEntries(messages(node, 5).map(decodeAttribute)),
    })),
    initialisers: Object.fromEntries(messages(graph, 5).map(decodeTensor)),
    inputs: messages(graph, 11).map(decodeValue),
    outputs: messages(graph, 12).map(decodeValue),
  };
}
