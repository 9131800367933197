#!/usr/bin/env node
// Starts the program `orch` of the package for this platform, which npm installs as an optional dependency.
"use strict";

const { spawn } = require("node:child_process");
const os = require("node:os");
const path = require("node:path");

// The exit code of orch for an internal error.
const INTERNAL_ERROR = 5;

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(INTERNAL_ERROR);
}

function findProgram() {
  const name = `@orch-run/${process.platform}-${process.arch}`;
  try {
    const manifest = require.resolve(`${name}/package.json`);
    return path.join(path.dirname(manifest), "bin", process.platform === "win32" ? "orch.exe" : "orch");
  } catch (error) {
    if (error.code !== "MODULE_NOT_FOUND") throw error;
    return fail(
      `the package ${name} with the program is not installed. If npm left out optional dependencies, install again ` +
        "without --omit=optional. If there is no such package, orch has no program for this platform: build it from " +
        "its source.",
    );
  }
}

// Runs the program as a child, and ends as it ended.
function runChild(program, args) {
  const child = spawn(program, args, { stdio: "inherit" });
  // A terminal sends Ctrl-C to both processes. orch counts signals within 150 ms as one, so a second one does no harm.
  const signals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"];
  const caught = process.platform === "win32" ? ["SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"] : signals;
  for (const signal of caught) {
    process.on(signal, () => {
      // On Windows, kill() would end the child, which gets the event of the console itself.
      if (process.platform !== "win32") child.kill(signal);
    });
  }
  child.on("error", (error) => fail(`${program} can't be started: ${error.message}`));
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
    // The signal may not end this process, for example if its parent ignores it. Then the exit code is that of a shell.
    setTimeout(() => process.exit(128 + os.constants.signals[signal]), 1000);
  });
}

const program = findProgram();
const args = process.argv.slice(2);
if (typeof process.execve === "function" && process.platform !== "win32") {
  // Node 22.15 and later can replace this process, so that none is left between the caller and the program.
  try {
    process.execve(program, [program, ...args], process.env);
  } catch (error) {
    fail(`${program} can't be started: ${error.message}`);
  }
} else {
  runChild(program, args);
}
