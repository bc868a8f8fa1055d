/** A shell like that of a user: variables and the working directory of one command stay for the next. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";

/** The output of a command, of both streams in order, and its exit code. */
export interface Printed {
  code: number;
  text: string;
}

export class Shell {
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly mark = `end-${randomBytes(8).toString("hex")}`;
  private printed = "";

  /** Opens a POSIX shell in a folder. The caller closes it. */
  constructor(folder: string, env: NodeJS.ProcessEnv) {
    this.child = spawn("sh", [], { cwd: folder, env });
    this.child.stdin.write("exec 2>&1\n");
  }

  /** Runs one line without a terminal. If the shell itself ends, the code is -1. */
  run(line: string): Promise<Printed> {
    const { stdin, stdout } = this.child;
    const { promise, resolve } = Promise.withResolvers<Printed>();
    const finish = (code: number, text: string) => {
      stdout.off("data", read);
      this.child.off("close", end);
      resolve({ code, text });
    };
    const end = () => finish(-1, this.printed);
    const read = (chunk: Buffer) => {
      this.printed += chunk;
      const [whole, text = "", code = ""] = new RegExp(`^(.*)${this.mark} (\\d+)\n`, "s").exec(this.printed) ?? [];
      if (whole === undefined) return;
      this.printed = this.printed.slice(whole.length);
      finish(Number(code), text);
    };
    stdout.on("data", read);
    this.child.on("close", end);
    stdin.write(`{ ${line}\n} </dev/null; printf '%s %s\\n' ${this.mark} $?\n`);
    return promise;
  }

  close(): void {
    this.child.stdin.end();
    this.child.kill();
  }
}
