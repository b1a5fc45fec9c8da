/** Weights of the reference implementation and of torchvision, made into ours. */

import { GlnetError } from '../errors';
import {
  type Architecture,
  type Backbone,
  backboneParameters,
  backbones,
  baseChannels,
  branchParameters,
  expectedParameters,
  type ParameterShapes,
} from '../models/parameters';
import { checkpointError } from './file';
import {
  type ClassInfo,
  configProblems,
  inheritance,
  type Mode,
  type ModelConfig,
  parameterProblems,
} from './model-file';
import { openPyTorch } from './pytorch';
import { openSafetensors } from './safetensors';
import type { HostTensor, StateDict, TensorFile } from './state-dict';

/** The reference's checkpoints, one for each training phase: files of `torch.save`, or `.safetensors`. */
export interface ReferenceFiles {
  /** Phase 1. */
  readonly global: string;
  /** Phase 2. */
  readonly globalToLocal?: string | undefined;
  /** Phase 3. */
  readonly localToGlobal?: string | undefined;
}

export interface ImportOptions {
  /** Names and colours, as many as the network has classes; default `class 0`, … in distinct colours. */
  readonly classes?: readonly ClassInfo[] | undefined;
  /** Side of a patch in pixels; default 508. */
  readonly patch?: number | undefined;
  /** Side of the downsampled whole image in pixels; default 508. */
  readonly global?: number | undefined;
}

export interface ImportedModel {
  config: ModelConfig;
  /** By phase and reference name, as `writeModel` takes them; of the type they were stored in. */
  tensors: StateDict;
}

/**
 * Joins the checkpoints of the reference's training phases. Depth, width, channels and the number of classes are
 * inferred from the phase-1 file. Each file may hold the whole network, as the published ones do: parameters that its
 * phase does not use and the counters `num_batches_tracked` are dropped.
 * @throws GlnetError ERR_FILE if a file cannot be read; ERR_CHECKPOINT if one is malformed, or, in one error,
 * with the missing, surplus and misshapen tensors of all of them; ERR_INVALID_ARGUMENT for wrong options.
 */
export async function importReference(
  files: ReferenceFiles,
  options: ImportOptions = {},
): Promise<ImportedModel> {
  const opened: { mode: Mode; file: TensorFile }[] = [];
  try {
    const paths: [Mode, string | undefined][] = [
      ['global', files.global],
      ['global-to-local', files.globalToLocal],
      ['bidirectional', files.localToGlobal],
    ];
    for (const [mode, path] of paths) {
      if (path !== undefined) opened.push({ mode, file: await openCheckpoint(path) });
    }
    const config: ModelConfig = {
      ...inferArchitecture(opened[0]!.file, options.classes),
      patch: options.patch ?? 508,
      global: options.global ?? 508,
      modes: opened.map(({ mode }) => mode),
    };
    const wrong = configProblems(config);
    if (wrong.length > 0) {
      throw new GlnetError(
        'ERR_INVALID_ARGUMENT',
        [`${files.global}: cannot be imported with these options:`, ...wrong].join('\n  '),
      );
    }

    const known = networkParameters(config);
    const problems: string[] = [];
    const phases = opened.map(({ mode, file }) => {
      const source = inheritance(config, mode);
      const held = source && [...source.parameters.keys()].some((name) => file.tensors.has(name));
      const whole = held || (source && !config.modes.includes(source.from));
      const expected = new Map([...expectedParameters(config, mode), ...(whole ? source!.parameters : [])]);
      const lines = parameterProblems(expected, file.tensors, (name) => known.has(name));
      if (lines.length > 0) problems.push(`${file.path}, as the weights of ${mode}:`, ...indented(lines));
      return { mode, file, source: whole ? source : undefined };
    });
    if (problems.length > 0) {
      const { backbone, width, fpn, classes } = config;
      throw checkpointError(
        files.global,
        [
          `has ${backbone} of width ${width}, FPN of ${fpn.channels} and ${fpn.smooth} channels, ${classes.length} ` +
            'classes, which these tensors do not fit:',
          ...indented(problems),
        ].join('\n'),
      );
    }

    const tensors: StateDict = new Map();
    for (const { mode, file, source } of phases) {
      for (const name of expectedParameters(config, mode).keys()) {
        tensors.set(`${mode}.${name}`, await file.read(name));
      }
      if (!source) continue;
      const branch: StateDict = new Map();
      for (const name of source.parameters.keys()) branch.set(name, await file.read(name));
      const same = [...branch].every(([name, tensor]) =>
        isSame(tensor, tensors.get(`${source.from}.${name}`)),
      );
      if (!same) for (const [name, tensor] of branch) tensors.set(`${mode}.${name}`, tensor);
    }
    return { config, tensors };
  } finally {
    for (const { file } of opened) await file.close();
  }
}

export interface ImportedBackbone {
  backbone: Backbone;
  width: number;
  /** By torchvision's names: `conv1.weight`, `layer1.0.bn1.running_mean`, … */
  tensors: StateDict;
}

/**
 * Reads an ImageNet ResNet of torchvision as a backbone. Depth and width are inferred; the classifier `fc` and the
 * counters `num_batches_tracked` are dropped.
 * @throws GlnetError ERR_FILE if the file cannot be read; ERR_CHECKPOINT if it is malformed or not such a ResNet,
 * with its missing, surplus and misshapen tensors.
 */
export async function importBackbone(path: string): Promise<ImportedBackbone> {
  const file = await openCheckpoint(path);
  try {
    const { backbone, width } = inferBackbone(file, '');
    const expected = backboneParameters(backbone, width);
    const counters = withCounters(expected);
    const problems = parameterProblems(
      expected,
      file.tensors,
      (name) => counters.has(name) || name.startsWith('fc.'),
    );
    if (problems.length > 0) {
      throw checkpointError(
        path,
        [`its tensors do not fit ${backbone} of width ${width}:`, ...indented(problems)].join('\n'),
      );
    }
    const tensors: StateDict = new Map();
    for (const name of expected.keys()) tensors.set(name, await file.read(name));
    return { backbone, width, tensors };
  } finally {
    await file.close();
  }
}

function openCheckpoint(path: string): Promise<TensorFile> {
  return path.endsWith('.safetensors') ? openSafetensors(path) : openPyTorch(path);
}

function inferArchitecture(file: TensorFile, classes: readonly ClassInfo[] | undefined): Architecture {
  const { backbone, width } = inferBackbone(file, 'resnet_global.');
  const channels = outputChannels(file, 'fpn_global.toplayer.weight', 'fpn_global.toplayer.bias');
  const smooth = outputChannels(file, 'fpn_global.smooth1_2.weight', 'fpn_global.smooth1_2.bias');
  const count = outputChannels(file, 'fpn_global.classify.weight', 'fpn_global.classify.bias');
  if (classes && classes.length !== count) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      `${file.path}: has ${count} classes, but ${classes.length} were named (${classes.map(({ name }) => name).join(', ')})`,
    );
  }
  return { backbone, width, fpn: { channels, smooth }, classes: classes ?? defaultClasses(count) };
}

function inferBackbone(file: TensorFile, prefix: string): { backbone: Backbone; width: number } {
  const width = outputChannels(file, `${prefix}conv1.weight`, `${prefix}bn1.weight`) / baseChannels;
  const blocks = [0, 0, 0, 0];
  let block = 'basic';
  for (const name of file.tensors.keys()) {
    const match =
      name.startsWith(prefix) && /^layer([1-4])\.(\d{1,3})\.(\w+)/.exec(name.slice(prefix.length));
    if (!match) continue;
    const stage = Number(match[1]) - 1;
    blocks[stage] = Math.max(blocks[stage]!, Number(match[2]) + 1);
    if (match[3] === 'conv3') block = 'bottleneck';
  }
  for (const [name, layout] of Object.entries(backbones)) {
    if (layout.block === block && layout.blocks.join() === blocks.join()) {
      return { backbone: name as Backbone, width };
    }
  }
  throw checkpointError(
    file.path,
    `${prefix}layer1 to layer4 have ${blocks.join(', ')} ${block} blocks, as none of ${Object.keys(backbones).join(', ')} has`,
  );
}

/** The first size of whichever of these tensors is there. */
function outputChannels(file: TensorFile, ...names: string[]): number {
  for (const name of names) {
    const channels = file.tensors.get(name)?.shape[0];
    if (channels) return channels;
  }
  const held = [...file.tensors.keys()].slice(0, 5).join(', ');
  throw checkpointError(
    file.path,
    `${names.join(' and ')} are missing, so the architecture cannot be inferred; it holds ${held || 'no tensor'}, …`,
  );
}

/** Every name that the reference's network has, whatever the phase. */
function networkParameters(config: Architecture): Set<string> {
  return withCounters(
    new Map([
      ...branchParameters(config, 'global'),
      ...branchParameters(config, 'local'),
      ...expectedParameters(config, 'bidirectional'),
    ]),
  );
}

/** With the counter of each batch normalisation. */
function withCounters(parameters: ParameterShapes): Set<string> {
  const names = new Set(parameters.keys());
  for (const name of parameters.keys()) {
    if (name.endsWith('.running_mean')) names.add(name.replace('running_mean', 'num_batches_tracked'));
  }
  return names;
}

function isSame(a: HostTensor, b: HostTensor | undefined): boolean {
  return b !== undefined && a.dtype === b.dtype && Buffer.compare(a.data, b.data) === 0;
}

function indented(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`);
}

/** Colours of the PASCAL VOC palette: the bits of the index, dealt to red, green and blue from the highest. */
function defaultClasses(count: number): ClassInfo[] {
  return Array.from({ length: count }, (_, index) => {
    const color: [number, number, number] = [0, 0, 0];
    for (let bit = 0; bit < 8; bit++) color[bit % 3]! |= ((index >> bit) & 1) << (7 - Math.floor(bit / 3));
    return { name: `class ${index}`, color };
  });
}
