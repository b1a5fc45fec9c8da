import { readdirSync } from 'node:fs';
import path from 'node:path';
import { type OnnxGraph, writeOnnx } from '../../../src/checkpoint/onnx';
import { readOnnx } from '../../support/onnx';
import { rejection, temporaryFolder } from './files';

const folder = temporaryFolder();
const description = { producer: { name: 'test', version: '1' }, metadata: { mode: 'a', more: 'b' } };

function graphOf(weights: Record<string, number[]>): OnnxGraph {
  return {
    name: 'graph',
    nodes: [
      {
        op: 'Scale',
        inputs: ['x', '', 'w'],
        output: 'y',
        attributes: { axis: -1, by: 0.5, mode: 'm', at: [3, 0] },
      },
    ],
    inputs: [{ name: 'x', shape: ['N', 3] }],
    outputs: [{ name: 'y', shape: [2, 3] }],
    constants: new Map([['sizes', [1, -2, 2 ** 40]]]),
    weights: new Map(Object.entries(weights)),
  };
}

test('what is written is read back', async () => {
  const file = path.join(folder.path, 'a.onnx');
  const values: Record<string, number[]> = { w: [1, -0.5, 0.25], scalar: [7], none: [] };
  await writeOnnx(file, graphOf({ w: [3, 1], scalar: [], none: [0, 4] }), description, async (name) =>
    Float32Array.from(values[name]!),
  );
  expect(readOnnx(file)).toEqual({
    irVersion: 8,
    producer: 'test 1',
    opset: 17,
    metadata: { mode: 'a', more: 'b' },
    name: 'graph',
    nodes: [
      {
        op: 'Scale',
        name: 'y',
        inputs: ['x', '', 'w'],
        outputs: ['y'],
        attributes: { axis: -1, by: 0.5, mode: 'm', at: [3, 0] },
      },
    ],
    initialisers: {
      w: { shape: [3, 1], type: 1, values: [1, -0.5, 0.25] },
      scalar: { shape: [], type: 1, values: [7] },
      none: { shape: [0, 4], type: 1, values: [] },
      sizes: { shape: [3], type: 7, values: [1, -2, 2 ** 40] },
    },
    inputs: [{ name: 'x', type: 1, shape: ['N', 3] }],
    outputs: [{ name: 'y', type: 1, shape: [2, 3] }],
  });
});

test.each([
  ['one weight', { w: [2 ** 29] }],
  ['one weight beyond 32 bits', { w: [2 ** 15, 2 ** 18] }],
  ['several together', { v: [2 ** 28], w: [2 ** 28] }],
])(
  'more than 2 GB is refused before anything is written: %s',
  async (_, weights: Record<string, number[]>) => {
    const error = await rejection(
      writeOnnx(path.join(folder.path, 'large.onnx'), graphOf(weights), description, () => {
        throw new Error('nothing is to be read');
      }),
    );
    expect(error.code).toBe('ERR_INVALID_ARGUMENT');
    expect(error.message).toMatch(/large\.onnx: the file would have \d+ bytes; .* \(2 GB\) at most/);
  },
);

test('a weight of another length is refused, and nothing is left', async () => {
  const before = readdirSync(folder.path);
  const error = await rejection(
    writeOnnx(
      path.join(folder.path, 'b.onnx'),
      graphOf({ w: [3] }),
      description,
      async () => new Float32Array(2),
    ),
  );
  expect(error.code).toBe('ERR_INVALID_ARGUMENT');
  expect(error.message).toContain('the weight w has 8 bytes; its shape takes 12');
  expect(readdirSync(folder.path)).toEqual(before);
});
