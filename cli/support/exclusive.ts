/** Options that exclude each other. */
import { Option } from "@commander-js/extra-typings";

/**
 * Returns a function that creates the options of a group that exclude each other. Commander reports a conflict by their names.
 * @param names the options' names in commander, in camel case.
 */
export const exclusive =
  (...names: readonly string[]) =>
  <const Flags extends string>(flags: Flags, description: string): Option<Flags> => {
    const option = new Option(flags, description);
    option.conflicts(names.filter((name) => name !== option.attributeName()));
    return option;
  };
