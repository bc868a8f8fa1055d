/**
 * For script/up: prints `generic` if the migrations run in this project's own image, which needs a Python image, else `service`.
 * Usage: node components/migrations/image-choice.ts ALEMBIC APPLICATION SERVICE ENV_FILE, each the value of its setting, empty for the
 * default.
 */
import { resolve } from "node:path";
import { composeServiceOf } from "./application.ts";

const [alembic = "", application, service, envFile] = process.argv.slice(2);
try {
  const found = composeServiceOf({
    alembic: resolve(alembic),
    folder: application ? resolve(application) : undefined,
    envFile: envFile || ".env",
    service: service === "auto" ? undefined : service || undefined,
  });
  console.log(found === undefined ? "generic" : "service");
} catch {
  // The update reports the error.
  console.log("service");
}
