/** Options of which at most one makes sense. */
import { Option } from "@commander-js/extra-typings";

/**
 * Makes the options of a group of which at most one may be given; commander refuses two of them by their names.
 * @param names the options' names as commander has them, in camel case.
 */
export const exclusive =
  (...names: readonly string[]) =>
  <const Flags extends string>(flags: Flags, description: string): Option<Flags> => {
    const option = new Option(flags, description);
    option.conflicts(names.filter((name) => name !== option.attributeName()));
    return option;
  };
