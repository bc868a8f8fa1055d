/** An application with the structure of the game, copied to a test's own folder. */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { docker } from "../../lib/docker.ts";
import { pythonImage, readImages } from "../../lib/images.ts";

export class Application {
  /** Contains a space and an apostrophe, like folders on users' machines. */
  readonly folder: string;
  readonly gameserver: string;
  readonly versions: string;
  /** The name of its Compose project, if the test sets its own. */
  readonly project = `swgame${randomBytes(4).toString("hex")}`;
  /** The image of its service gameserver. */
  readonly image = `${this.project}-gameserver`;
  /** Variables that docker compose needs to build that image on this machine. */
  readonly buildEnvironment: { PYTHON_IMAGE: string } = { PYTHON_IMAGE: pythonImage(readImages()) };

  private constructor(folder: string) {
    this.folder = folder;
    this.gameserver = join(folder, "services/gameserver");
    this.versions = join(this.gameserver, "alembic/versions");
  }

  /** @param place a test's own folder, which is removed with the application. */
  static async make(place?: string): Promise<Application> {
    const application = new Application(
      place ?? join(await mkdtemp(join(tmpdir(), "sectorwars-test-")), "the pilot's game"),
    );
    await cp("test/application", application.folder, { recursive: true });
    return application;
  }

  /** An application whose models need only Alembic and the drivers, and so no image of its own. */
  static async makePlain(): Promise<Application> {
    const application = await Application.make();
    await application.write(
      "services/gameserver/src/settings.py",
      'import os\nfrom types import SimpleNamespace\n\nsettings = SimpleNamespace(DATABASE_URL=os.environ["DATABASE_URL"], ADMIN_USERNAME="admin")\n',
    );
    return application;
  }

  /** Creates a git repository with an .env file that git ignores, with COMPOSE_PROJECT_NAME and variables. */
  async checkIn(env: string): Promise<void> {
    execFileSync("git", ["-C", this.folder, "init", "--quiet"]);
    await this.write(".gitignore", ".env\n");
    await this.write(".env", `COMPOSE_PROJECT_NAME=${this.project}\n${env}`);
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

  async end(): Promise<void> {
    await docker(["image", "rm", this.image]).catch(() => {});
    await rm(join(this.folder, ".."), { recursive: true, force: true });
  }
}
