/** Refuses to drop a database that nobody said may go. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { setAside } from "../roles/kept-roles.ts";
import { rolesOf } from "../roles/names.ts";
import { type DatabaseListInputs, OWN_ROLES } from "./databases.ts";

/** The roles of databases on a volume that outlived its stack step aside, until each database takes its own back. */
async function makeRoom({ host, port, user, password }: DatabaseListInputs, names: readonly string[]): Promise<void> {
  const roles = names.flatMap((name) => OWN_ROLES.map((key) => rolesOf(name)[key]));
  if (roles.length > 0) await setAside({ host, port, user, password, database: "postgres" }, roles);
}

export const provider: dynamic.ResourceProvider = {
  /** In a preview as well: the engine drops last, so an error here comes before anything is gone. */
  async diff(_id, olds: DatabaseListInputs, news: DatabaseListInputs) {
    const gone = olds.names.filter((name) => !news.names.includes(name));
    const refused = gone.filter((name) => !news.droppable.includes(name));
    if (refused.length > 0) {
      throw new Error(
        `The database${refused.length > 1 ? "s" : ""} ${refused.join(", ")} would be dropped, with all rows, as databases no longer ` +
          `names ${refused.length > 1 ? "them" : "it"}. If that is wanted, say so: pulumi config set --path 'droppableDatabases[0]' ${refused[0]}`,
      );
    }
    const isMoved = (["host", "port", "passwordVersion"] as const).some((key) => olds[key] !== news[key]);
    const changes = isMoved || gone.length > 0 || news.names.some((name) => !olds.names.includes(name));
    return { changes, replaces: [], deleteBeforeReplace: false };
  },

  async create(inputs: DatabaseListInputs) {
    await makeRoom(inputs, inputs.names);
    return { id: "databases", outs: { ...inputs } };
  },

  async update(_id, olds: DatabaseListInputs, inputs: DatabaseListInputs) {
    const added = inputs.names.filter((name) => !olds.names.includes(name));
    await makeRoom(inputs, added);
    return { outs: { ...inputs } };
  },
};
