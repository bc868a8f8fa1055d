/** Refuses to drop a database unless the setting droppableDatabases names it. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import type { DatabaseListInputs } from "./databases.ts";

export const provider: dynamic.ResourceProvider = {
  /** Runs in previews as well. The engine deletes last, so an error here comes before anything is dropped. */
  async diff(_id, olds: DatabaseListInputs, news: DatabaseListInputs) {
    const gone = olds.names.filter((name) => !news.names.includes(name));
    const refused = gone.filter((name) => !news.droppable.includes(name));
    if (refused.length > 0) {
      throw new Error(
        `The database${refused.length > 1 ? "s" : ""} ${refused.join(", ")} would be dropped with all rows, because the setting databases ` +
          `no longer names ${refused.length > 1 ? "them" : "it"}. To permit that: pulumi config set --path 'droppableDatabases[0]' ${refused[0]}`,
      );
    }
    const isMoved = (["host", "port", "passwordVersion"] as const).some((key) => olds[key] !== news[key]);
    const changes = isMoved || gone.length > 0 || news.names.some((name) => !olds.names.includes(name));
    return { changes, replaces: [], deleteBeforeReplace: false };
  },

  async create(inputs: DatabaseListInputs) {
    return { id: "databases", outs: { ...inputs } };
  },

  async update(_id, _olds, inputs: DatabaseListInputs) {
    return { outs: { ...inputs } };
  },
};
