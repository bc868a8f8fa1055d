/**
 * Backups in a real S3 store, with TLS from its own certificate authority. Its server must be built first, so this runs only with
 * BACKUPS=store in the environment, after `script/bootstrap store`.
 */
import { randomBytes } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { confirmRecoveryTarget } from "../../components/backups/confirm-target.ts";
import { archiveEverything } from "../../components/backups/restore.ts";
import { makeServerCertificate } from "../../lib/certificates.ts";
import { docker } from "../../lib/docker.ts";
import { BACKED_UP, BackedUp, until } from "../support/backed-up.ts";
import { images } from "../support/lab.ts";
import { run, TestStack } from "../support/test-stack.ts";

const BUCKET = "game";
const ACCESS = {
  ROOT_ACCESS_KEY: `key${randomBytes(8).toString("hex")}`,
  ROOT_SECRET_KEY: randomBytes(24).toString("hex"),
};

describe.runIf(process.env.BACKUPS === "store")("a store", () => {
  let stack: TestStack;
  let store: string;
  let settings: Record<string, string>;

  let backed: BackedUp;
  const succeed = (name: string, ...args: string[]) => backed.succeed(name, ...args);
  const inside = (line: string) => backed.inside(line);
  const report = () => backed.report();
  const inStore = (line: string) => docker(["exec", store, "sh", "-c", `cd /s3/${BUCKET}/backups && ${line}`]);
  const count = () =>
    stack.as("owner", async (client) => (await client.query("SELECT count(*)::int AS n FROM ledger")).rows[0].n);
  const connectStore = () => docker(["network", "connect", "--alias", "store", stack.names.network, store]);

  beforeAll(async () => {
    stack = await TestStack.make({ bootstrap: "empty", memory: "512" });
    backed = new BackedUp(stack);
    store = `${stack.names.container}-store`;
    await stack.up();
    const files = resolve(stack.stateFolder, "settings/sectorwars");
    await mkdir(files, { recursive: true, mode: 0o700 });
    const { authority, certificate, key } = await makeServerCertificate(["store"]);
    const write = (name: string, text: string) => writeFile(join(files, name), text, { mode: 0o600 });
    await write("authority.pem", authority);
    await write("store.crt", certificate);
    await write("store.key", key);
    await write(`s3-${stack.name}.txt`, `key: ${ACCESS.ROOT_ACCESS_KEY}\nsecret: ${ACCESS.ROOT_SECRET_KEY}\n`);
    const serve = `mkdir -p /s3/${BUCKET} && exec /versitygw --quiet --port :9000 --cert /store.crt --key /store.key posix /s3`;
    const variables = Object.keys(ACCESS).flatMap((name) => ["-e", name]);
    const made = ["create", "--name", store, ...variables, "--entrypoint", "sh", images().databaseBase, "-c", serve];
    expect((await run("docker", made, ACCESS)).code).toBe(0);
    await docker(["cp", ".local/toolchain/bin/versitygw", `${store}:/versitygw`]);
    for (const file of ["store.crt", "store.key"]) await docker(["cp", join(files, file), `${store}:/${file}`]);
    await docker(["start", store]);
    await connectStore();
    settings = {
      ...BACKED_UP,
      backupRepository: `s3://${BUCKET}/backups`,
      backupS3Endpoint: "store:9000",
      backupS3Authority: join(files, "authority.pem"),
    };
    for (const [name, value] of Object.entries(settings)) await stack.set(name, value);
    await stack.up();
    await until("the first full backup", async () => (await report()).full.ok !== null, 120);
    await stack.as("owner", (client) =>
      client.query("CREATE TABLE ledger AS SELECT i AS n, md5(i::text) AS hash FROM generate_series(1, 20000) i"),
    );
  });
  afterAll(async () => {
    await docker(["rm", "-f", "-v", store]).catch(() => {});
    await stack.end();
  });

  test("has everything, encrypted; its keys are shown nowhere, and its certificate is verified", async () => {
    expect((await inStore("ls")).trim().split("\n").sort()).toEqual([
      "archive",
      "backup",
      "made-on",
      "records",
      "timelines",
    ]);
    // The other two files are not secret: timelines has only positions and times, made-on only a system's name.
    const heads = await inStore(
      "for f in $(find archive backup records -type f -size +16c); do head -c 8 $f; echo; done",
    );
    expect(new Set(heads.trim().split("\n"))).toEqual(new Set(["Salted__"]));
    const { container, backups, image } = stack.names;
    const shown = await Promise.all([
      docker(["inspect", container, backups]),
      ...[container, backups].map((name) => docker(["logs", name])),
      ...[container, backups].map((name) =>
        docker(["exec", name, "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '"]),
      ),
      docker(["history", "--no-trunc", `${image}:15`]),
      stack.stateText(),
    ]);
    for (const text of shown) for (const secret of Object.values(ACCESS)) expect(text).not.toContain(secret);
    // The system's certificate authorities do not verify the store's certificate.
    const others =
      "gosu postgres pgbackrest --stanza=main --repo1-storage-ca-file=/etc/ssl/certs/ca-certificates.crt repo-ls";
    await expect(inside(`${others} || exit 3`)).rejects.toThrow(/certificate/);
    expect(await succeed("status")).toMatch(/backups {5}1, the last \d+ \w+ ago; any time from/);
    await stack.up("--expect-no-changes");
  });

  test("works for differential backups, drills and restores to a time; a damaged or missing file fails a recovery", async () => {
    expect(await succeed("backup")).toMatch(/F_\d{8}-\d{6}D: [1-9][\d.]* \w+ in/);
    expect(await backed.result("drill")).toMatchObject({ result: "ok" });
    const point = await stack.as("superuser", (client) => confirmRecoveryTarget(stack.name, client));
    await stack.as("owner", (client) => client.query("DELETE FROM ledger WHERE n > 5"));
    await succeed("restore", "--to", point?.at ?? "");
    expect(await count()).toBe(20_000);
    await backed.quiet();

    await stack.as("owner", (client) => client.query("INSERT INTO ledger SELECT i FROM generate_series(1, 500) i"));
    const file = await stack.as("superuser", async (client) => {
      const name = (await client.query("SELECT pg_walfile_name(pg_current_wal_lsn()) AS name")).rows[0].name;
      await archiveEverything(client);
      return name;
    });
    const harms: [string, RegExp][] = [
      ["printf X | dd of=$f bs=1 seek=4000 conv=notrunc", /damaged in the repository|could not restore file/],
      ["rm $f", /is missing in the repository, while later ones are there/],
    ];
    for (const [harm, expected] of harms) {
      await inStore(`f=$(ls archive/main/*/*/${file}-*) && echo $f >/tmp/which && cp -a $f /tmp/kept && ${harm}`);
      const said = await backed.command("restore", "--to", "latest");
      await inStore("cp -a /tmp/kept $(cat /tmp/which)");
      expect(said.text).toContain("Nothing was changed: the recovery failed: ");
      expect(said.text).toMatch(expected);
    }
    expect(await count()).toBe(20_500);
  });

  test("that is unreachable is reported by status, and gets all WAL once it is back", async () => {
    await docker(["stop", "-t", "1", store]);
    await stack.as("owner", (client) => client.query("INSERT INTO ledger SELECT i FROM generate_series(1, 500) i"));
    await stack.as("superuser", (client) => client.query("SELECT pg_switch_wal()"));
    await until("the failure", async () => ((await report()).archiver?.failed ?? 0) > 0, 180);
    const said = await backed.command("status");
    expect(said.text).toMatch(/TROUBLE {5}the repository is empty, missing or unreadable .*store/);
    await docker(["start", store]);
    await until("the archive", async () => (await report()).waiting === 0, 180);
  });

  test("and the key are enough to restore on a new machine", async () => {
    await stack.as("superuser", archiveEverything);
    await docker(["rm", "-f", stack.names.container, stack.names.backups]);
    await docker(["volume", "rm", stack.names.volume, stack.names.socketVolume, stack.names.backupVolume]);
    await docker(["network", "disconnect", stack.names.network, store]);
    await docker(["network", "rm", stack.names.network]);
    await stack.loseState({ ...settings, bootstrap: "backup" });
    const up = stack.up();
    let isOver = false;
    void up
      .finally(() => {
        isOver = true;
      })
      .catch(() => {});
    // A real store is reachable without the stack's network; here it must join as soon as the network exists.
    while (
      !isOver &&
      !(await connectStore().then(
        () => true,
        () => false,
      ))
    )
      await sleep(50);
    await up;
    expect(await count()).toBe(21_000);
    await stack.up("--expect-no-changes");
    await backed.quiet();
    expect(await backed.result("drill")).toMatchObject({ result: "ok" });
  });
});
