/**
 * Stands in for npm's dependency solver. Pulumi's SDK loads that at every start of a program or of a dynamic provider, with
 * more than four hundred files, for one purpose: to find the packages that a function needs which is shipped to a cloud.
 * This program ships none. So package.json names this folder instead, with a version that Pulumi takes: updates start
 * sooner, and a hundred packages less are installed.
 */
exports.Arborist = class {
  constructor() {
    throw new Error(
      "Pulumi asks for npm's dependency solver, which this project leaves out: npm uninstall @npmcli/arborist brings it back",
    );
  }
};
