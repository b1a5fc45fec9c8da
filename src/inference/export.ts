/** Networks of a model file as files that other runtimes read. */
import { realpath } from 'node:fs/promises';
import { type Mode, openModel } from '../checkpoint/model-file';
import { type OnnxGraph, writeOnnx } from '../checkpoint/onnx';
import { toFloat32 } from '../checkpoint/state-dict';
import { GlnetError } from '../errors';
import { type GraphOptions, globalGraph, localGraph } from '../models/onnx';

/** What a graph can hold: a pass over an image or a batch of patches. What is between passes is not in any graph. */
export type ExportMode = Exclude<Mode, 'bidirectional'>;
export const exportModes: readonly ExportMode[] = ['global', 'global-to-local'];

export interface ExportOptions extends GraphOptions {
  /** By default the last of {@link exportModes} that the model has weights for. */
  readonly mode?: ExportMode | undefined;
}

const { version } = require('../../package.json') as { version: string };

/**
 * Writes a network as an ONNX file, weights in float32: see {@link globalGraph} and {@link localGraph}.
 * @param weights a model file
 * @throws GlnetError ERR_INVALID_ARGUMENT for options, a mode that the model lacks, and a file that would have more
 *   than 2 GB; ERR_FILE, ERR_CHECKPOINT.
 */
export async function exportOnnx(
  weights: string,
  out: string,
  options: ExportOptions = {},
): Promise<OnnxGraph> {
  const { batch, maps } = options;
  if (batch !== undefined && !(Number.isInteger(batch) && batch >= 1)) {
    throw new GlnetError('ERR_INVALID_ARGUMENT', `batch is ${batch}; expected a whole number from 1`);
  }
  const file = await openModel(weights);
  try {
    const [from, to] = await Promise.all([weights, out].map((each) => realpath(each).catch(() => undefined)));
    if (from !== undefined && from === to) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        `${out} is the model ${weights} itself; choose another file for the ONNX graph`,
      );
    }
    const { config } = file;
    const mode = options.mode ?? exportModes.filter((each) => config.modes.includes(each)).at(-1)!;
    if (maps && mode !== 'global') {
      throw new GlnetError('ERR_INVALID_ARGUMENT', `maps is set; only mode global gives them, not ${mode}`);
    }
    const located = file.locate(mode);
    const graph = (mode === 'global' ? globalGraph : localGraph)(config, options);
    const description = {
      producer: { name: 'glnet', version },
      metadata: { mode, classes: JSON.stringify(config.classes) },
    };
    await writeOnnx(out, graph, description, async (name) => toFloat32(await file.read(located.get(name)!)));
    return graph;
  } finally {
    await file.close();
  }
}
