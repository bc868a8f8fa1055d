/** Paths that the user types on the command line: they are relative to the folder in which ./db was called. */
import { resolve } from "node:path";

/** The user's folder: the program itself moves to the project's. */
export const CALLED_IN = process.cwd();

/** Resolves a path that the user typed. Parses the value of an option. */
export const fromCaller = (path: string): string => resolve(CALLED_IN, path);
