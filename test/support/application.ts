/** An application shaped like the game, copied to a folder of a test's own. */
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Application {
  /** With a space in it, as folders on people's machines have. */
  readonly folder: string;
  readonly gameserver: string;
  readonly versions: string;

  private constructor(folder: string) {
    this.folder = folder;
    this.gameserver = join(folder, "services/gameserver");
    this.versions = join(this.gameserver, "alembic/versions");
  }

  static async make(): Promise<Application> {
    const application = new Application(join(await mkdtemp(join(tmpdir(), "sectorwars-test-")), "the game"));
    await cp("test/application", application.folder, { recursive: true });
    return application;
  }

  /** Adds a revision. `up` and `down` are SQL, or Python that begins with `op.` or `with`. */
  async addRevision(id: string, after: string, up: string, down = "SELECT 1", title = `makes ${id}`): Promise<void> {
    const body = (code: string) => (/^(op\.|with )/.test(code) ? code : `op.execute(${JSON.stringify(code)})`);
    await this.write(
      `services/gameserver/alembic/versions/${id}.py`,
      `"""${title}"""\nfrom alembic import op\n\nrevision = "${id}"\ndown_revision = "${after}"\n\n\ndef upgrade():\n    ${body(up)}\n\n\ndef downgrade():\n    ${body(down)}\n`,
    );
  }

  removeRevision(id: string): Promise<void> {
    return rm(join(this.versions, `${id}.py`));
  }

  write(path: string, text: string): Promise<void> {
    return writeFile(join(this.folder, path), text);
  }

  read(path: string): Promise<string> {
    return readFile(join(this.folder, path), "utf8");
  }

  end(): Promise<void> {
    return rm(join(this.folder, ".."), { recursive: true, force: true });
  }
}
