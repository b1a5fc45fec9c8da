/**
 * Our model file: safetensors, with the configuration as JSON under the metadata key `glnet`. A tensor's name is the
 * phase that trained it and its name in the reference implementation, `global-to-local.fpn_local.smooth.weight`.
 */

import { GlnetError } from '../errors';
import {
  allSharing,
  type Backbone,
  type Branch,
  backbones,
  baseChannels,
  branchParameters,
  expectedParameters,
  type ParameterShapes,
  type Sharing,
} from '../models/parameters';
import { checkpointError } from './file';
import { openSafetensors, type SafetensorsFile, writeSafetensors } from './safetensors';
import { formatShape, type StateDict, type TensorInfo } from './state-dict';

/** What is computed; also the training phase that the mode's own weights come from. */
export type Mode = 'global' | 'global-to-local' | 'bidirectional';

/** In the order of their training. */
export const allModes: readonly Mode[] = ['global', 'global-to-local', 'bidirectional'];

export interface ClassInfo {
  readonly name: string;
  /** Red, green, blue, 0 to 255, for masks and overlays. */
  readonly color: readonly [number, number, number];
}

/** Everything but the weights. */
export interface ModelConfig {
  readonly backbone: Backbone;
  /** Multiplier of the backbone's channels: 64 · width is a whole number. */
  readonly width: number;
  /** Output channels of the laterals and `smooth*_1` (`channels`), and of `smooth*_2` (`smooth`). */
  readonly fpn: { readonly channels: number; readonly smooth: number };
  /** In the order of the class indices; 2 to 255. */
  readonly classes: readonly ClassInfo[];
  /** Side of a patch in pixels, a multiple of 4. */
  readonly patch: number;
  /** Side of the downsampled whole image in pixels, a multiple of 4. */
  readonly global: number;
  /** At which stages the branches share their maps; `deep` if not given. */
  readonly sharing?: Sharing;
  /** Modes that the file has the weights for; `global` is always among them. */
  readonly modes: readonly Mode[];
}

const metadataKey = 'glnet';
/** Rises when older versions of the package could no longer read the file. */
const formatVersion = 1;

/** Patches overlap by at least 50 pixels, so that a smaller one could not advance. */
const minPatch = 52;
const maxSide = 65536;
const maxChannels = 65536;

/**
 * A branch that a phase takes over unchanged. It is stored again only where it differs: the reference's files hold
 * the whole network each, and running statistics may have moved.
 */
const inherited: Readonly<Partial<Record<Mode, { branch: Branch; from: Mode }>>> = {
  'global-to-local': { branch: 'global', from: 'global' },
  bidirectional: { branch: 'local', from: 'global-to-local' },
};

/** What a phase may inherit: parameters by the reference's names, and the phase that has them otherwise. */
export interface Inheritance {
  readonly from: Mode;
  readonly parameters: ParameterShapes;
}

/** Undefined for phase 1, which inherits nothing. */
export function inheritance(config: ModelConfig, phase: Mode): Inheritance | undefined {
  const source = inherited[phase];
  return source && { from: source.from, parameters: branchParameters(config, source.branch) };
}

/** An open model file. */
export interface ModelFile extends SafetensorsFile {
  readonly config: ModelConfig;
  /**
   * Where the network of a mode finds its tensors: names in this file by the reference's names. `global` has the
   * global branch; `global-to-local` has it too, and the local branch and the aggregation; `bidirectional` has the
   * global branch with `_ext` layers, the local branch and the aggregation, and its fixed global branch is that of
   * `global`. A tensor that phases share has one name here, so that it need be loaded only once.
   * @throws GlnetError ERR_INVALID_ARGUMENT if the file lacks the mode.
   */
  locate(mode: Mode): Map<string, string>;
  /** Reads the tensors of {@link locate}, by the reference's names. */
  readMode(mode: Mode): Promise<StateDict>;
}

/**
 * Opens a model file and checks its configuration and the name, shape and type of every tensor; weights are read
 * later, as they are asked for.
 * @throws GlnetError ERR_FILE if it cannot be read; ERR_CHECKPOINT with every wrong field or tensor named.
 */
export async function openModel(path: string): Promise<ModelFile> {
  const file = await openSafetensors(path);
  try {
    const config = parseConfig(path, file.metadata.get(metadataKey));
    const problems = tensorProblems(config, file.tensors);
    if (problems.length > 0) {
      throw checkpointError(path, ['its tensors do not fit its configuration:', ...problems].join('\n  '));
    }
    const locate = (mode: Mode): Map<string, string> => {
      if (!config.modes.includes(mode)) {
        throw new GlnetError(
          'ERR_INVALID_ARGUMENT',
          `${path}: no weights for the mode ${JSON.stringify(mode)}; it has ${config.modes.join(', ')}`,
        );
      }
      const names = new Map<string, string>();
      for (const name of expectedParameters(config, mode).keys()) names.set(name, `${mode}.${name}`);
      const source = inheritance(config, mode);
      for (const name of source?.parameters.keys() ?? []) {
        const own = `${mode}.${name}`;
        names.set(name, file.tensors.has(own) ? own : `${source!.from}.${name}`);
      }
      return names;
    };
    return {
      path,
      config,
      metadata: file.metadata,
      tensors: file.tensors,
      get descriptor() {
        return file.descriptor;
      },
      read: file.read,
      close: file.close,
      locate,
      async readMode(mode: Mode): Promise<StateDict> {
        const state: StateDict = new Map();
        for (const [name, stored] of locate(mode)) state.set(name, await file.read(stored));
        return state;
      },
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * Writes a model file, whole or not at all.
 * @param tensors by phase and reference name, as in the file.
 * @throws GlnetError ERR_INVALID_ARGUMENT with every wrong field or tensor named; ERR_FILE.
 */
export async function writeModel(path: string, config: ModelConfig, tensors: StateDict): Promise<void> {
  const wrong = configProblems(config);
  const problems = wrong.length > 0 ? wrong : tensorProblems(config, tensors);
  if (problems.length > 0) {
    throw new GlnetError(
      'ERR_INVALID_ARGUMENT',
      [`${path}: cannot write this model:`, ...problems].join('\n  '),
    );
  }
  const { backbone, width, fpn, classes, patch, global, sharing } = config;
  const text = JSON.stringify({
    format: formatVersion,
    backbone,
    width,
    fpn: { channels: fpn.channels, smooth: fpn.smooth },
    classes: classes.map(({ name, color }) => ({ name, color })),
    patch,
    global,
    ...(sharing && sharing !== 'deep' && { sharing }),
    modes: allModes.filter((mode) => config.modes.includes(mode)),
  });
  await writeSafetensors(path, tensors, new Map([[metadataKey, text]]));
}

function parseConfig(path: string, text: string | undefined): ModelConfig {
  if (text === undefined) {
    throw checkpointError(
      path,
      `not a glnet model: its metadata lacks ${metadataKey}. Weights of the reference implementation are ` +
        'joined into one with "glnet import"',
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw checkpointError(path, `its configuration is not JSON (${(error as Error).message})`, error);
  }
  const format = (value as { format?: unknown } | null)?.format;
  if (format !== formatVersion) {
    throw checkpointError(
      path,
      `its configuration has format ${JSON.stringify(format)}, this version of glnet reads ${formatVersion}; update glnet`,
    );
  }
  const problems = configProblems(value);
  if (problems.length > 0) {
    throw checkpointError(path, ['its configuration is wrong:', ...problems].join('\n  '));
  }
  const { backbone, width, fpn, classes, patch, global, sharing, modes } = value as ModelConfig;
  return { backbone, width, fpn, classes, patch, global, ...(sharing && { sharing }), modes };
}

/** A line for each wrong field of a configuration. */
export function configProblems(value: unknown): string[] {
  const problems: string[] = [];
  const config = Object(value) as Partial<Record<keyof ModelConfig, unknown>>;
  const expect = (valid: boolean, field: string, found: unknown, expected: string): void => {
    if (!valid) problems.push(`${field} is ${JSON.stringify(found)}, expected ${expected}`);
  };

  const { backbone, width, patch, global, classes, modes } = config;
  expect(
    typeof backbone === 'string' && Object.hasOwn(backbones, backbone),
    'backbone',
    backbone,
    `one of ${Object.keys(backbones).join(', ')}`,
  );
  expect(
    isInteger(Number(width) * baseChannels, 1, maxChannels) && typeof width === 'number',
    'width',
    width,
    `a positive multiple of 1/${baseChannels}`,
  );
  const fpn = Object(config.fpn) as Record<string, unknown>;
  for (const field of ['channels', 'smooth']) {
    expect(isInteger(fpn[field], 1, maxChannels), `fpn.${field}`, fpn[field], 'a positive integer');
  }
  const isSide = (side: unknown, least: number): boolean =>
    isInteger(side, least, maxSide) && Number(side) % 4 === 0;
  expect(isSide(patch, minPatch), 'patch', patch, `a multiple of 4 from ${minPatch} to ${maxSide}`);
  expect(isSide(global, 4), 'global', global, `a multiple of 4 from 4 to ${maxSide}`);
  expect(
    config.sharing === undefined || allSharing.includes(config.sharing as Sharing),
    'sharing',
    config.sharing,
    `one of ${allSharing.join(', ')}`,
  );

  if (Array.isArray(classes) && classes.length >= 2 && classes.length <= 255) {
    classes.forEach((item: unknown, i) => {
      const { name, color } = Object(item) as Record<string, unknown>;
      expect(typeof name === 'string' && name !== '', `classes[${i}].name`, name, 'a string');
      expect(
        Array.isArray(color) && color.length === 3 && color.every((part) => isInteger(part, 0, 255)),
        `classes[${i}].color`,
        color,
        '[red, green, blue] from 0 to 255',
      );
    });
  } else {
    problems.push(
      `classes is ${Array.isArray(classes) ? `a list of ${classes.length}` : JSON.stringify(classes)}, expected a list of 2 to 255`,
    );
  }
  expect(
    Array.isArray(modes) &&
      modes.includes('global') &&
      modes.every((mode) => allModes.includes(mode)) &&
      new Set(modes).size === modes.length,
    'modes',
    modes,
    `a list of ${allModes.join(', ')}, the first always among them`,
  );
  return problems;
}

function isInteger(value: unknown, least: number, most: number): boolean {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
}

/** Lines that list every tensor that a model file of this configuration lacks or should not have. */
function tensorProblems(config: ModelConfig, tensors: ReadonlyMap<string, TensorInfo>): string[] {
  const expected: ParameterShapes = new Map();
  for (const mode of config.modes) {
    for (const [name, shape] of expectedParameters(config, mode)) expected.set(`${mode}.${name}`, shape);
    const source = inheritance(config, mode);
    if (!source) continue;
    // The whole branch or nothing of it, and the whole where there is none to inherit.
    const stored = [...source.parameters.keys()].some((name) => tensors.has(`${mode}.${name}`));
    if (stored || !config.modes.includes(source.from)) {
      for (const [name, shape] of source.parameters) expected.set(`${mode}.${name}`, shape);
    }
  }
  return parameterProblems(expected, tensors);
}

/**
 * Compares tensors with what is expected: a line each for those missing, surplus, misshapen and not of a floating
 * type, all counted, the first ones named.
 * @param ignored tells names that may be there besides.
 */
export function parameterProblems(
  expected: ReadonlyMap<string, readonly number[]>,
  found: ReadonlyMap<string, TensorInfo>,
  ignored: (name: string) => boolean = () => false,
): string[] {
  const missing: string[] = [];
  const surplus: string[] = [];
  const misshapen: string[] = [];
  const mistyped: string[] = [];
  for (const [name, shape] of expected) {
    const tensor = found.get(name);
    if (!tensor) {
      missing.push(name);
    } else if (formatShape(tensor.shape) !== formatShape(shape)) {
      misshapen.push(`${name} ${formatShape(tensor.shape)} instead of ${formatShape(shape)}`);
    } else if (!/float/.test(tensor.dtype)) {
      mistyped.push(`${name} ${tensor.dtype}`);
    }
  }
  for (const name of found.keys()) if (!expected.has(name) && !ignored(name)) surplus.push(name);
  return [
    ...listed('missing', missing),
    ...listed('surplus', surplus),
    ...listed('misshapen', misshapen),
    ...listed('not of a floating type', mistyped),
  ];
}

const namesListed = 40;

function listed(title: string, names: readonly string[]): string[] {
  if (names.length === 0) return [];
  const more = names.length - namesListed;
  const rest = more > 0 ? `, and ${more} more` : '';
  return [`${title} (${names.length}): ${names.slice(0, namesListed).join(', ')}${rest}`];
}
