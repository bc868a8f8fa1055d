/** Resolves paths on the command line, which are relative to the folder in which ./db was called. */
import { resolve } from "node:path";

/** The user's folder. The program itself changes to the project's folder. */
export const CALLER_FOLDER = process.cwd();

/** Resolves a path that the user typed. Parses the value of an option. */
export const fromCaller = (path: string): string => resolve(CALLER_FOLDER, path);
