/** `./db completion`: prints the completion script of a shell. The script gets its candidates from `./db complete`. */
import { Argument, type Command } from "@commander-js/extra-typings";
import { COMPLETION_SCRIPTS } from "./support/completion-scripts.ts";
import { addExamples, withoutStack } from "./support/subcommand.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

/** Configures the command `./db completion`. */
export default function completion(command: Command): void {
  command
    .description(
      "Prints the script that makes a shell complete subcommands, options and stacks. It works for every ./db on this machine: " +
        "./db, /path/to/db, or a symbolic link named db.",
    )
    .addArgument(new Argument("<shell>", "the shell").choices(SHELLS))
    .action(
      withoutStack(async ({ print }, shell) => {
        const script = COMPLETION_SCRIPTS[shell];
        print(script.trimEnd(), { shell, script });
        return 0;
      }),
    );
  addExamples(command, {
    'completion bash  # eval "$(./db completion bash)" in ~/.bashrc': "",
    "completion zsh   # source <(./db completion zsh) in ~/.zshrc, after compinit": "",
    "completion fish  # ./db completion fish >~/.config/fish/completions/db.fish": "",
  });
}
