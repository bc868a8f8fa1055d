/** Settings of the privileges. */
import { each, list } from "../../lib/setting.ts";

export const PRIVILEGES_SETTINGS = {
  readonlyDenyList: list(each((name) => /^[\w*]+$/.test(name), "give names of tables; * stands for any characters")),
};
