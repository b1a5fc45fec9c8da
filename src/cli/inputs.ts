/** Which images a command line names, and where their results go. */
import { mkdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { glob, isDynamicPattern } from 'tinyglobby';
import { GlnetError } from '../errors';
import { replaceFile } from '../raster/png';

/** What a folder's images end in. */
const imageExtensions = ['.jpg', '.jpeg', '.png', '.webp', '.gif', '.tif', '.tiff'];

export interface Input {
  path: string;
  /** Where its results go below the output folder, without an extension. */
  name: string;
}

export interface Inputs {
  inputs: Input[];
  /** Why sources gave nothing. */
  problems: { path: string; error: GlnetError }[];
}

export interface Job {
  readonly path: string;
  readonly mask: string;
  readonly overlay?: string;
  readonly confidence?: string;
}

/**
 * Finds the images that files, folders and patterns name, each image once. Results of files from a folder or a
 * pattern keep their subfolders; what lies in an output folder inside the searched one is left out.
 */
export async function findInputs(
  sources: readonly string[],
  { recursive, out }: { recursive: boolean; out: string },
): Promise<Inputs> {
  const found = new Map<string, Input>();
  const problems: Inputs['problems'] = [];
  const outFolder = await realPath(out);
  const add = async (file: string, name: string): Promise<void> => {
    const key = await realPath(file);
    if (!found.has(key)) found.set(key, { path: file, name: withoutExtension(name) });
  };
  const search = async (folder: string, pattern: string): Promise<string[]> => {
    const files = await glob(pattern, { cwd: folder, expandDirectories: false, caseSensitiveMatch: false });
    const base = await realPath(folder);
    const excluded = isInside(outFolder, base) ? outFolder : undefined;
    return files
      .filter((file) => excluded === undefined || !isInside(path.resolve(base, file), excluded))
      .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  };
  for (const source of sources) {
    const problem = (message: string): void => {
      problems.push({ path: source, error: new GlnetError('ERR_FILE', `${source}: ${message}`) });
    };
    const stats = await stat(source).catch(() => undefined);
    if (stats?.isDirectory()) {
      const files = await search(source, recursive ? '**/*' : '*');
      const images = files.filter((file) => imageExtensions.includes(path.extname(file).toLowerCase()));
      for (const file of images) await add(path.join(source, file), file);
      if (images.length === 0) {
        const hint = recursive ? '' : '; --recursive looks into its subfolders as well';
        problem(`this folder has no images (${imageExtensions.join(', ')})${hint}`);
      }
    } else if (!stats && isDynamicPattern(source)) {
      const { folder, pattern } = splitPattern(source);
      const files = await search(folder, pattern);
      for (const file of files) await add(path.join(folder, file), file);
      if (files.length === 0) problem('no file matches this pattern');
    } else if (!stats) {
      problem('no such file or folder; check the path');
    } else {
      await add(source, path.basename(source));
    }
  }
  return { inputs: [...found.values()], problems };
}

/**
 * Decides where results go.
 * @throws GlnetError ERR_INVALID_ARGUMENT if two of them, or a result and an image, would be the same file.
 */
export function planJobs(
  inputs: readonly Input[],
  out: string,
  { overlay, confidence }: { overlay: boolean; confidence: boolean },
): Job[] {
  const taken = new Map(inputs.map((input) => [fileKey(input.path), `the image ${input.path} itself`]));
  return inputs.map(({ path: image, name }) => {
    const job: Job = {
      path: image,
      mask: path.join(out, `${name}.png`),
      ...(overlay && { overlay: path.join(out, `${name}.overlay.jpg`) }),
      ...(confidence && { confidence: path.join(out, `${name}.confidence.png`) }),
    };
    for (const file of filesOf(job)) {
      const other = taken.get(fileKey(file));
      if (other !== undefined) {
        throw new GlnetError(
          'ERR_INVALID_ARGUMENT',
          `${image}: its result ${file} would overwrite ${other}; ` +
            (other.startsWith('the image')
              ? 'choose another output folder'
              : 'segment them into output folders of their own, or name the folder that both lie in, with --recursive'),
        );
      }
      taken.set(fileKey(file), `the result of ${image}`);
    }
    return job;
  });
}

/** All files that a job writes. */
export function filesOf({ mask, overlay, confidence }: Job): string[] {
  return [mask, overlay, confidence].filter((file) => file !== undefined);
}

/**
 * Makes a folder for results, with those that it lies in.
 * @throws GlnetError ERR_FILE if it cannot be made.
 */
export async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new GlnetError(
      'ERR_FILE',
      `${folder}: this folder can't be made (${code}); choose another output folder`,
      { cause },
    );
  }
}

function withoutExtension(file: string): string {
  return path.join(path.dirname(file), path.basename(file, path.extname(file)));
}

/** The part of a pattern before its first wildcard is a folder. */
function splitPattern(source: string): { folder: string; pattern: string } {
  const parts = source.split('/');
  // -1 if braces enclose a slash, so that no part alone is a pattern.
  const at = Math.max(
    0,
    parts.findIndex((part) => isDynamicPattern(part)),
  );
  return { folder: parts.slice(0, at).join('/') || (at > 0 ? '/' : '.'), pattern: parts.slice(at).join('/') };
}

/** Without links as far as the path exists, so that two paths to one file are equal. */
async function realPath(file: string): Promise<string> {
  const absolute = path.resolve(file);
  try {
    return await realpath(absolute);
  } catch {
    const parent = path.dirname(absolute);
    return parent === absolute ? absolute : path.join(await realPath(parent), path.basename(absolute));
  }
}

function isInside(file: string, folder: string): boolean {
  return file.startsWith(folder.endsWith(path.sep) ? folder : folder + path.sep);
}

/** Other systems than Linux take names that differ only in their case for the same. */
function fileKey(file: string): string {
  const absolute = path.resolve(file);
  return process.platform === 'linux' ? absolute : absolute.toLowerCase();
}

/** Writes a file beside its place and moves it there. */
export async function writeText(file: string, text: string): Promise<void> {
  await replaceFile(file, undefined, (handle) => handle.writeFile(text));
}
