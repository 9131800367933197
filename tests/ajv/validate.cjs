// Validates documents against a schema with ajv in strict mode. Reads `{ schema, documents }` from a file, and prints
// the first error of each document, or `null`.
const { readFileSync } = require("node:fs");
const Ajv = require("ajv/dist/2020").default;

const { schema, documents } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const ajv = new Ajv({ strict: true });
const validate = ajv.compile(schema);
const firstError = (document) => (validate(document) ? null : ajv.errorsText(validate.errors.slice(0, 1)));
process.stdout.write(JSON.stringify(documents.map(firstError)));
