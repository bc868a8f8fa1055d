/** Tells what `pulumi destroy` deletes. */
import * as pulumi from "@pulumi/pulumi";

/** Where a stack's data and its backups are, and which of them `pulumi destroy` keeps. */
export interface Belongings {
  dataVolume: string;
  keepsData: boolean;
  /** The volume, folder or store with the backups. */
  repository: string;
  keepsBackups: boolean;
}

/**
 * Returns a notice of what `pulumi destroy` deletes of a stack with backups, and how to keep it. It has at most 150 characters if
 * both are deleted, because Pulumi truncates longer outputs. Pure.
 */
export function destroyNotice({ dataVolume, keepsData, repository, keepsBackups }: Belongings): string {
  const parts = [
    { what: "data", where: dataVolume, isKept: keepsData, setting: "keepDataOnDestroy" },
    { what: "backups", where: repository, isKept: keepsBackups, setting: "backupKeepOnDestroy" },
  ];
  const deleted = parts.filter(({ isKept }) => !isKept);
  const kept = parts.filter(({ isKept }) => isKept);
  const and = (words: string[]) => words.join(" and ");
  const settings = deleted.map(({ setting }) => `pulumi config set ${setting} true`).join(", ");
  return [
    ...(deleted.length > 0 ? [`deletes ${and(deleted.map(({ what }) => `all ${what}`))}`] : []),
    ...(kept.length > 0 ? [`keeps ${and(kept.map(({ what, where }) => `the ${what} (${where})`))}`] : []),
    ...(deleted.length > 0 ? [`to keep: ${settings}, pulumi up`] : []),
  ].join("; ");
}

/**
 * A resource whose name is the notice. The preview of `pulumi destroy` does not run the program, and lists only the types and names of
 * resources, so a name is the only place for the notice.
 */
export class OnDestroy extends pulumi.ComponentResource {
  constructor(notice: string, opts: pulumi.ComponentResourceOptions) {
    super("sectorwars:backups:OnDestroy", notice, {}, opts);
    this.registerOutputs();
  }
}
