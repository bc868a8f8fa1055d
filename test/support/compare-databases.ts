/** Compares the two ends of an import as `./db verify` does, without a stack. */

import { openComparedDatabase } from "../../components/import/compare/compared-database.ts";
import { withDefinitionServer } from "../../components/import/compare/rewording.ts";
import { compareDatabases, type Verification } from "../../components/import/compare/verify.ts";
import { readBaseline } from "../../components/import/rows/baseline.ts";
import { asOwner } from "../../components/import/session/session.ts";
import type { ImportSpec } from "../../components/import/types.ts";
import { withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";

/** Compares the current state of source and target. */
export async function compareSourceAndTarget(spec: ImportSpec): Promise<Verification> {
  const options = { jobs: 2, stack: spec.stack, dockerHost: undefined };
  const { address, fromContainer } = spec.target;
  const access = {
    label: "the target",
    address,
    fromContainer,
    rootCertificates: undefined,
    dumpLogin: asOwner(address, spec.target),
  };
  const [source, target] = await Promise.all([
    openComparedDatabase(spec.source, options),
    openComparedDatabase(access, options),
  ]);
  try {
    return await compareDatabases(source, target, {
      baseline: await withConnection(address, readBaseline),
      owner: ROLE_NAMES.owner,
      roles: Object.values(ROLE_NAMES),
      image: spec.image,
      newerImage: spec.newerImage,
      withServer: (work) => withDefinitionServer(spec, work),
      say: () => {},
    });
  } finally {
    await Promise.all([source.close(), target.close()]);
  }
}
