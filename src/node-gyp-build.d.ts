declare module 'node-gyp-build' {
  /** Loads the addon of the package in this folder: its own build, or a prebuilt one. */
  export default function load(root: string): unknown;
}
