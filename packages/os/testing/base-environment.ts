// What a test gives every program that it starts in an environment of its own.

/**
 * Where Node keeps compiled code, if the tests' configuration says so: a program that starts from its sources
 * takes half the CPU time with it.
 */
export function compileCache(): Record<string, string> {
  const { NODE_COMPILE_CACHE } = process.env;
  return NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE };
}

/** The variables PATH and HOME of this process, and the compile cache. */
export function baseEnvironment(): Record<string, string> {
  const { PATH = "", HOME = "/" } = process.env;
  return { PATH, HOME, ...compileCache() };
}
