// The tables in which a Convex deployment follows runs of orch.
//
// A document is found by the run's id and, for a step, by its key. `seq` is the number of the event
// that the document was last written for: an older event that arrives late changes nothing.

import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export const runStatus = v.union(
  v.literal("pending"),
  v.literal("running"),
  v.literal("waiting"),
  v.literal("completed"),
  v.literal("failed"),
  v.literal("cancelled"),
  v.literal("interrupted"),
);

export const stepStatus = v.union(
  v.literal("pending"),
  v.literal("in_progress"),
  v.literal("waiting"),
  v.literal("completed"),
  v.literal("failed"),
  v.literal("skipped"),
  v.literal("cancelled"),
);

/**
 * Tokens and US dollars. `estimatedTokens` of the tokens were not reported and are an upper estimate, and
 * `unknownCalls` calls reported nothing. `costUsd` is there when every part of it is known, `estimatedCostUsd` when
 * every part is known or estimated.
 */
export const usage = v.object({
  inputTokens: v.number(),
  outputTokens: v.number(),
  estimatedTokens: v.optional(v.number()),
  unknownCalls: v.optional(v.number()),
  costUsd: v.optional(v.number()),
  estimatedCostUsd: v.optional(v.number()),
});

export const failure = v.object({ class: v.string(), message: v.string() });

/** How a run stands; times are milliseconds since 1970. */
export const progress = {
  status: runStatus,
  startedAt: v.optional(v.number()),
  endedAt: v.optional(v.number()),
  totals: usage,
  error: v.optional(failure),
};

/** How a step stands. */
export const step = {
  runId: v.string(),
  key: v.string(),
  name: v.string(),
  position: v.number(),
  agent: v.string(),
  model: v.string(),
  /** The session of the agent program that does it, in the program's own words. */
  session: v.optional(v.string()),
  status: stepStatus,
  startedAt: v.optional(v.number()),
  endedAt: v.optional(v.number()),
  attempts: v.number(),
  output: v.optional(v.object({ name: v.string(), digest: v.string() })),
  error: v.optional(failure),
  reason: v.optional(v.string()),
  usage,
  seq: v.number(),
};

/** One stretch of work on a run by one process: it was started or resumed, until it ended. */
export const session = {
  runId: v.string(),
  number: v.number(),
  status: runStatus,
  startedAt: v.number(),
  endedAt: v.optional(v.number()),
  version: v.string(),
  seq: v.number(),
};

export default defineSchema({
  workflows: defineTable({
    // Absent until a run takes the workflow up.
    runId: v.optional(v.string()),
    task: v.optional(v.string()),
    pipeline: v.optional(v.string()),
    ...progress,
    seq: v.number(),
  }).index("by_run", ["runId"]),
  steps: defineTable(step).index("by_run", ["runId", "position"]).index("by_key", ["runId", "key"]),
  sessions: defineTable(session).index("by_run", ["runId", "number"]),
});
