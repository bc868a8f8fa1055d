/** What a stack tells about itself. */

/** The outputs that there are: Pulumi warns of each one without a value, and not to have been asked for is no fault. */
export const omitUndefined = <Outputs extends object>(outputs: Outputs): Partial<Outputs> =>
  Object.fromEntries(Object.entries(outputs).filter(([, value]) => value !== undefined)) as Partial<Outputs>;
