#!/usr/bin/env node
/** The command `glnet`: its arguments. What a command does is loaded when it is called. */
import { Command, CommanderError, Option } from 'commander';
import { allModes } from '../checkpoint/model-file';
import { datasetFormats, datasetNames } from '../datasets/classes';
import { splitNames } from '../datasets/dataset';
import { exportModes } from '../inference/export';
import { precisionChoices } from '../inference/networks';
import { allOutputs, segmentModes } from '../inference/predict';
import { deviceKinds } from '../tensor/device';
import { dataCommand } from './data';
import { exitCodeOf, formatError } from './format';
import {
  parseBands,
  parseBytes,
  parseChoices,
  parseClasses,
  parseCount,
  parseNames,
  parsePositive,
  parseShare,
  parseStretch,
} from './parse';

const { version } = require('../../package.json') as { version: string };

const program = new Command('glnet')
  .description('Segments ultra-high resolution images in little memory, with GLNet (CVPR 2019).')
  .version(version)
  .showHelpAfterError('Run it with --help to see what it takes.')
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'glnet: ')) })
  .addHelpText(
    'after',
    `
Examples:
  glnet import --global g.pth --global-to-local g2l.pth --local-to-global l2g.pth -o model.safetensors
  glnet segment scene.tif --weights model.safetensors -o out/
  glnet train --data scenes/ --out runs/1 --all-phases
  glnet doctor

Exit codes: 0 all went well, 1 something failed, 2 wrong usage, 130 stopped by Ctrl-C.
GLNET_DEBUG=1 shows where an error came from.`,
  );

/** How large what the network sees is. */
function sideOptions(command: Command): void {
  command
    .option('--patch <pixels>', 'side of the patches, a multiple of 4 (default: the model’s)', parseCount)
    .option(
      '--global-size <pixels>',
      'side of the downsampled image, a multiple of 4 (default: the model’s)',
      parseCount,
    )
    .option('--flip-rotate', 'average over the 8 flips and quarter turns of the image: 8 times the work');
}

/** Where and how it is computed. */
function deviceOptions(command: Command): void {
  command
    .optionsGroup('Device:')
    .option(
      '--device <device>',
      'cpu, cuda, cuda:1, cuda:0,2, cuda:all; auto: all of CUDA’s, else the CPU; for tests also emulator, which runs ' +
        'the CUDA kernels on the CPU, and reference, which is slow and exact (default: cpu)',
    )
    .addOption(
      new Option(
        '--precision <precision>',
        'what maps and weights are stored in; bfloat16 takes half the memory, and half the time where the device has units for it: auto (default: float32)',
      ).choices(precisionChoices),
    )
    .option(
      '--batch <n>',
      'the most patches at a time; fewer if memory is short (default: 2 on the CPU, else a row of them, at most 12)',
      parseCount,
    )
    .option('--threads <n>', 'threads that compute (default: one for each core)', parseCount)
    .option(
      '--memory-limit <size>',
      'the most that tensors may take on a device: 1GB, 512MiB, 2e9; as many patches at a time as fit are taken (default: no limit)',
      parseBytes,
    )
    .option(
      '--cuda-graphs',
      'queue each batch of patches as one CUDA graph, with the same results; not yet measured on a GPU (default: off)',
    );
}

const segment = program
  .command('segment')
  .summary('make masks of images')
  .description(
    'Makes a mask of each image: a PNG whose values are the class indices, with the classes’ colours as its palette.\n' +
      'Only a window of the image and a few rows of its patches are in memory at a time.\n' +
      'What grows with the image: the decoded pixels of all but TIFF, and with --flip-rotate the scores.\n' +
      'In mode bidirectional, scores of large images wait in a temporary file in $TMPDIR.',
  )
  .argument('<image|folder|glob...>', 'images: JPEG, PNG, WebP, GIF, TIFF and GeoTIFF, 8 or 16 bits')
  .requiredOption('-w, --weights <file>', 'the model, made by "glnet import"')
  .requiredOption('-o, --out <folder>', 'where results go; made if need be')
  .optionsGroup('Network:')
  .addOption(
    new Option(
      '--mode <mode>',
      'what is computed (default: the last of these that the model has weights for)',
    ).choices(segmentModes),
  )
  .option(
    '--margin <share>',
    'mode coarse-to-fine: widen the box of the foreground by this share of its longer side (default: 0.1)',
    parseShare,
  )
  .addOption(
    new Option(
      '--output <branch>',
      'whose prediction is written (default: ensemble, in mode global: global)',
    ).choices(allOutputs),
  );
sideOptions(segment);
deviceOptions(segment);
segment
  .optionsGroup('Images:')
  .option('-r, --recursive', 'of a folder, its subfolders as well')
  .option(
    '--bands <r,g,b>',
    'bands taken as red, green and blue, counted from 1 (default: 1,2,3)',
    parseBands,
  )
  .option(
    '--stretch <min,max>',
    'sample values that become black and white (default: 16 bits by their upper byte)',
    parseStretch,
  )
  .option('--max-pixels <n>', 'refuse images of more pixels (default: 2^31 for TIFF, else 1e9)', parseCount)
  .optionsGroup('Results:')
  .option('--overlay', 'also a preview, <name>.overlay.jpg: the mask over the image, at most 2048 px')
  .option('--confidence', 'also <name>.confidence.png: 0 to 255, how sure each pixel’s label is')
  .option('--resume', 'skip images whose results are there already: those are always complete')
  .option('--json', 'a report as JSON on standard output, everything else on standard error')
  .option(
    '--profile <file>',
    'when each op and stage ran, as a trace for Perfetto (ui.perfetto.dev) or chrome://tracing; a GPU runs slower then',
  )
  .addHelpText(
    'after',
    `
A mask is <out>/<name>.png; of folders and globs, subfolders are kept. Results that would overwrite each other are
refused before anything is computed. A bad image is reported and the rest goes on. Ctrl-C stops at the next patch
batch and leaves nothing half-written.

Examples:
  glnet segment scene.tif -w model.safetensors -o out/ --overlay
  glnet segment tiles/ -w model.safetensors -o out/ --recursive --resume --memory-limit 1GB
  glnet segment scene.tif -w model.safetensors -o out/ --device cuda:all --precision bfloat16 --batch 6
  glnet segment 'tiles/**/*_sat.jpg' -w model.safetensors -o out/ --mode global-to-local --json > report.json
  glnet segment sentinel2.tif -w model.safetensors -o out/ --bands 4,3,2 --stretch 0,3000`,
  )
  .action(async (sources, options) => {
    const { segment: run } = require('./segment') as typeof import('./segment');
    process.exitCode = await run(sources, options);
  });

program
  .command('train')
  .summary('train a model on a labelled data set')
  .description(
    'Trains the phases of GLNet one after the other: the global branch; the local branch, which takes in its maps; the\n' +
      'global branch that takes in the local ones. The whole data set is checked first. What is not given is as in the\n' +
      'reference implementation, with γ = 6 (the paper’s).',
  )
  .requiredOption('-d, --data <folder>', 'the data set: see "glnet data check"')
  .requiredOption('-o, --out <folder>', 'the run’s folder: model, state, metrics; made if need be')
  .addOption(
    new Option('--format <layout>', 'how the folder is laid out').choices(datasetFormats).default('auto'),
  )
  .option('--description <file>', 'a description kept elsewhere than in the folder’s dataset.json')
  .addOption(new Option('--split <name>', 'what is trained on').choices(splitNames).default('train'))
  .addOption(new Option('--validation <name>', 'what is evaluated on').choices(splitNames).default('val'))
  .optionsGroup('What is trained:')
  .addOption(new Option('--phase <phases...>', 'one phase, or several in their order').choices(allModes))
  .addOption(new Option('--all-phases', 'all of them, from nothing to a finished model').conflicts('phase'))
  .option('-w, --weights <file>', 'a model: earlier phases’ weights, or those of a phase to go on with')
  .option('--backbone-weights <file>', 'where new backbones begin: a PyTorch checkpoint of a ResNet')
  .option(
    '-c, --config <file>',
    'settings as JSON, see below; the options here override them, those of single phases too',
  )
  .addOption(
    new Option('--steps <n>', 'steps of the optimiser in each phase')
      .argParser(parseCount)
      .conflicts('epochs'),
  )
  .option('--epochs <n>', 'or rounds over the data', parseCount)
  .option('--batch <n>', 'images of a step', parseCount)
  .option('--patch-batch <n>', 'the most patches at a time', parseCount)
  .option('--learning-rate <rate>', 'at its highest', parsePositive)
  .option('--seed <n>', 'of weights, order and augmentation', parseCount)
  .option('--checkpointing', 'recompute activations in the backward pass (default)')
  .option('--no-checkpointing', 'keep them all: a tenth faster, half as much memory again')
  .option('--resume', 'go on with the run in --out, as if it had not been stopped')
  .optionsGroup('Device:')
  .addOption(new Option('--device <device>', 'where it is computed').choices(deviceKinds).default('cpu'))
  .option('--threads <n>', 'threads that compute (default: one for each core)', parseCount)
  .option(
    '--memory-limit <size>',
    'the most that tensors may take: 1GB, 512MiB, 2e9 (default: no limit)',
    parseBytes,
  )
  .addHelpText(
    'after',
    `
Settings, with their defaults; "phases" overrides them for single phases:
  { "model": { "backbone": "resnet50", "width": 1, "fpn": { "channels": 256, "smooth": 128 }, "patch": 508,
               "global": 508, "sharing": "deep" },
    "scene": "image", "augment": true, "seed": 0, "epochs": 120, "batch": 6, "patchBatch": 6, "learningRate": 5e-5,
    "schedule": { "kind": "polynomial", "power": 0.9, "warmup": 0 },
    "optimiser": { "type": "adam", "weightDecay": 5e-4 }, "losses": [{ "type": "focal", "gamma": 6 }], "lambda": 0.15,
    "saveEvery": 100, "phases": { "global-to-local": { "epochs": 50, "learningRate": 2e-5 } } }
Others: steps, patchesPerScene, clip, classWeights, evaluateEvery, patience, checkpointing, coarseToFine. A scene is
an image, or a random square of as many pixels. Losses: focal, cross-entropy, dice, lovasz, each with a "weight".

The run's folder holds model.safetensors (the phases that are finished), <phase>.state.safetensors (to resume),
<phase>.best.safetensors, <phase>.metrics.jsonl, and tensorboard/. Ctrl-C stops after the step in progress.

Examples:
  glnet train -d deepglobe/ -o runs/1 --all-phases --backbone-weights resnet50.pth
  glnet train -d scenes/ -o runs/2 --phase global-to-local -w global.safetensors -c settings.json
  glnet train -d scenes/ -o runs/2 --phase global-to-local -w global.safetensors -c settings.json --resume`,
  )
  .action(async (options) => {
    const { train } = require('./train') as typeof import('./train');
    process.exitCode = await train(options);
  });

const evaluate = program
  .command('evaluate')
  .summary('measure how well a model segments a labelled data set')
  .description(
    'Segments the images of a data set and compares the masks with their labels: intersection over union by class and\n' +
      'its mean, pixel accuracy, boundary F-score, and the calibration error of the confidence.',
  )
  .requiredOption('-w, --weights <file>', 'the model')
  .requiredOption('-d, --data <folder>', 'the data set: see "glnet data check"')
  .addOption(
    new Option('--format <layout>', 'how the folder is laid out').choices(datasetFormats).default('auto'),
  )
  .option('--description <file>', 'a description kept elsewhere than in the folder’s dataset.json')
  .addOption(new Option('--split <name>', 'which of its images').choices(splitNames).default('test'))
  .optionsGroup('Network:')
  .addOption(
    new Option(
      '--mode <mode>',
      'what is computed; all: each mode that the model has weights for (default: the last of them)',
    ).choices(['all', ...segmentModes]),
  )
  .option(
    '--outputs <a,b,…>',
    `whose predictions are measured: ${allOutputs.join(', ')} (default: all that the mode has)`,
    parseChoices(allOutputs),
  );
sideOptions(evaluate);
deviceOptions(evaluate);
evaluate
  .optionsGroup('Results:')
  .option(
    '--compare-precision',
    'compute all of it in float32 as well, and tell how many labels differ (default precision then: bfloat16)',
  )
  .option(
    '--exclude <0,1,…>',
    'classes, by index, that do not count in the means (default: those of the data set)',
    parseClasses,
  )
  .option('--json <file>', 'all figures, confusion matrices and each image’s mean IoU, as JSON')
  .option('--picture <file>', 'the table, and the confusion matrix of the last mode’s first output, as a PNG')
  .option('-o, --out <folder>', 'also the masks: <folder>/<mode>/<output>/<image>.png')
  .addHelpText(
    'after',
    `
IoU is that of one confusion matrix over all images; a pixel labelled as no class is ignored. Boundaries match within
0.75 % of the image's diagonal. All outputs of a mode come out of one pass: its time and memory are told once. A bad
image is reported and counts in nothing; the rest goes on.

Examples:
  glnet evaluate -w model.safetensors -d dubai/
  glnet evaluate -w model.safetensors -d deepglobe/ --split val --mode all --json report.json --picture report.png`,
  )
  .action(async (options) => {
    const { evaluate: run } = require('./evaluate') as typeof import('./evaluate');
    process.exitCode = await run(options);
  });

program
  .command('import')
  .summary('make a model of the reference implementation’s checkpoints')
  .description(
    'Joins the checkpoints of the reference implementation, one for each training phase, to one model file.\n' +
      'Depth, width and channels follow from the tensors. Checkpoints are read without running anything in them.',
  )
  .requiredOption('--global <file>', 'phase 1: the global branch')
  .option('--global-to-local <file>', 'phase 2: the local branch and the ensemble')
  .option('--local-to-global <file>', 'phase 3: the global branch that takes local maps, and its ensemble')
  .requiredOption('-o, --out <file>', 'the model, a .safetensors file')
  .addOption(
    new Option('--dataset <name>', 'names and colours of the classes of a data set')
      .choices(datasetNames)
      .conflicts(['classes', 'classNames']),
  )
  .addOption(
    new Option(
      '--classes <file>',
      'names and colours from JSON: [{"name": "water", "color": [0, 0, 255]}, …]',
    ).conflicts('classNames'),
  )
  .option('--class-names <a,b,…>', 'names only, in the order of the class indices', parseNames)
  .option(
    '--patch <pixels>',
    'side of the patches it was trained on, a multiple of 4 (default: 508)',
    parseCount,
  )
  .option(
    '--global-size <pixels>',
    'side of the downsampled image, a multiple of 4 (default: 508)',
    parseCount,
  )
  .addHelpText(
    'after',
    `
Modes follow from the files: phase 1 gives global, phase 2 global-to-local, phase 3 bidirectional.

Examples:
  glnet import --global g.pth -o model.safetensors --class-names background,building
  glnet import --global g.pth --global-to-local g2l.pth --local-to-global l2g.pth --dataset deepglobe -o model.safetensors`,
  )
  .action(async (options) => {
    const { importModel } = require('./import') as typeof import('./import');
    process.exitCode = await importModel(options);
  });

program
  .command('export')
  .summary('write a network for other runtimes')
  .description(
    'Writes one pass of a network as an ONNX file (operator set 17), weights inside, in float32: the layers as they were\n' +
      'trained. Mode global: image to logits. Mode global-to-local: patches, and the global branch’s maps cropped to each,\n' +
      'to the logits of the ensemble and of the local branch.',
  )
  .requiredOption('--onnx <file>', 'where it goes')
  .requiredOption('-w, --weights <file>', 'the model')
  .addOption(
    new Option('--mode <mode>', 'which network (default: the last of these that the model has)').choices(
      exportModes,
    ),
  )
  .option('--batch <n>', 'images or patches at a time (default: any number)', parseCount)
  .option('--maps', 'mode global: its maps as outputs, too, by the names of global-to-local’s inputs')
  .addHelpText(
    'after',
    `
Images and patches are red, green and blue from 0 to 1, [N, 3, height, width]. A crop of a map is of any size: the
graph resizes it. Where a patch's crop lies, and how logits become labels, is the caller's to know.

Examples:
  glnet export --onnx global.onnx -w model.safetensors --mode global --maps
  glnet export --onnx local.onnx -w model.safetensors --mode global-to-local --batch 6`,
  )
  .action(async (options) => {
    const { exportModel } = require('./export') as typeof import('./export');
    process.exitCode = await exportModel(options);
  });

program
  .command('info')
  .summary('describe models, checkpoints and images')
  .description('Describes models (.safetensors), PyTorch checkpoints (.pth, .pt, …) and images.')
  .argument('<weights|image...>', 'files')
  .option(
    '--patch <pixels>',
    'side of the patches to lay over images, a multiple of 4 (default: 508)',
    parseCount,
  )
  .option('--json', 'as JSON')
  .addHelpText(
    'after',
    `
Examples:
  glnet info model.safetensors
  glnet info scene.tif --patch 1016`,
  )
  .action(async (files, options) => {
    const { info } = require('./info') as typeof import('./info');
    process.exitCode = await info(files, options);
  });

program
  .command('doctor')
  .summary('check this machine and this installation')
  .description(
    'Prints versions, processor, memory and devices, and compares a small network on each device with a plain\n' +
      'double-precision implementation. Exit code 1 if anything is missing or differs.',
  )
  .option('--gpu', 'test every CUDA device, and all ops on the first; without one, say why and fail')
  .option('--device <device>', 'test this one: cpu, cuda:1, emulator … (default: cpu, and all of CUDA’s)')
  .option('--json', 'as JSON')
  .action(async (options) => {
    const { doctor } = require('./doctor') as typeof import('./doctor');
    process.exitCode = await doctor(options);
  });

program.addCommand(dataCommand());

for (const command of [
  program,
  ...program.commands,
  ...program.commands.flatMap(({ commands }) => commands),
]) {
  command.copyInheritedSettings(program).exitOverride();
}

async function main(): Promise<void> {
  // A reader that has seen enough, such as head, is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
  try {
    await program.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : 2;
    } else {
      console.error(formatError(error));
      process.exitCode = exitCodeOf(error);
    }
  }
}

void main();
