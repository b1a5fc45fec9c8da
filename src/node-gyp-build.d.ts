declare module 'node-gyp-build' {
  /** Loads the addon of the package in this folder: its own build, or a prebuilt one. */
  function load(root: string): unknown;
  namespace load {
    /** The addon's file. */
    function resolve(root: string): string;
  }
  export = load;
}
