/** `./db completion`: the script with which a shell completes ./db. The candidates themselves come from `./db complete`. */
import { Argument, type Command } from "@commander-js/extra-typings";
import { COMPLETION_SCRIPTS } from "./support/completion-scripts.ts";
import { addExamples, withoutStack } from "./support/subcommand.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

/** Adds what `./db completion` takes and does to its command. */
export default function completion(command: Command): void {
  command
    .description(
      "Prints the script with which a shell completes subcommands, options and stacks. It works for every ./db on this machine, " +
        "however it is called: ./db, /path/to/db, or a symbolic link named db.",
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
