/** Options of a component's children. */
import type * as pulumi from "@pulumi/pulumi";

/**
 * Returns the options of a child that had another name in earlier versions. Today a child's name begins with its component's name, so that
 * two instances of a component do not collide. The alias tells Pulumi that the resource in an existing state is the same one. Without it,
 * Pulumi would replace the resource, and so delete the data volume and everything else of which a user may have the only copy.
 * @param formerName the resource's name in earlier versions.
 */
export const childOf = (parent: pulumi.Resource, formerName: string) => ({ parent, aliases: [{ name: formerName }] });
