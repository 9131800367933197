// The functions of a `convex/` folder behind Convex's HTTP API, on Convex's own test double.
//
// Usage: node --import tsx server.mjs FOLDER. Prints its address, and ends with its standard input.
// Everything is in memory. It checks the key that it is given in CONVEX_TEST_KEY and nothing else of a
// caller: no users, no conflicts, no limits.

import { createServer } from "node:http";
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { convexTest } from "convex-test";
import { makeFunctionReference } from "convex/server";

const folder = process.argv[2];
const load = (name) => import(pathToFileURL(join(folder, name)));
const modules = {
  // Marks the root of the functions.
  "./_generated/api.js": async () => ({}),
  "./workflows.ts": () => load("workflows.ts"),
};
const convex = convexTest((await load("schema.ts")).default, modules);

async function call(kind, { path, args }) {
  const reference = makeFunctionReference(path);
  const value = await (kind === "query" ? convex.query(reference, args) : convex.mutation(reference, args));
  return { status: "success", value: value ?? null, logLines: [] };
}

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString("utf8"));
}

const allowed = (request) => request.headers.authorization === `Convex ${process.env.CONVEX_TEST_KEY}`;

// One after the other, as a deployment orders conflicting transactions.
let last = Promise.resolve();

const server = createServer(async (request, response) => {
  const send = (status, value) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(value));
  };
  const kind = request.url?.match(/^\/api\/(query|mutation)$/)?.[1];
  if (request.method !== "POST" || kind === undefined) {
    return send(404, { code: "NotFound", message: "no such route" });
  }
  if (!allowed(request)) {
    return send(401, { code: "BadDeployKey", message: "the deploy key is not valid" });
  }
  let given;
  try {
    given = await body(request);
  } catch (error) {
    return send(400, { code: "BadJsonBody", message: String(error) });
  }
  last = last.then(() => call(kind, given)).then(
    (value) => send(200, value),
    (error) => send(560, { status: "error", errorMessage: String(error.message), errorData: error.data, logLines: [] }),
  );
});

server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
process.stdin.resume().on("end", () => process.exit(0));
