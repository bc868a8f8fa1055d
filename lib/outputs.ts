/** The outputs of a stack. */

/** Returns the outputs that have a value. Pulumi warns about each output without one, but parts of a stack are optional. */
export const omitUndefined = <Outputs extends object>(outputs: Outputs): Partial<Outputs> =>
  Object.fromEntries(Object.entries(outputs).filter(([, value]) => value !== undefined)) as Partial<Outputs>;
