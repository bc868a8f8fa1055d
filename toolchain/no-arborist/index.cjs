/**
 * Replaces npm's dependency solver. Pulumi's SDK loads the solver, with more than 400 files, whenever a program or a dynamic provider
 * starts, and uses it only to find the packages of a function that is serialised for a cloud. This program serialises none, so
 * package.json names this folder instead, with a version that Pulumi accepts. Updates start sooner, and npm installs 100 packages fewer.
 */
exports.Arborist = class {
  constructor() {
    throw new Error(
      "Pulumi needs npm's dependency solver, which this project replaces by a stub. To install the real one: npm uninstall @npmcli/arborist",
    );
  }
};
