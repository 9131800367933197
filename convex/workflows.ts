// What orch calls to tell how a run stands, and what a dashboard calls to see it.
//
// Every mutation may be called again, and late: it is idempotent by run id and step key, and leaves a
// document alone that a newer event wrote.

import { mutationGeneric, queryGeneric } from "convex/server";
import type { DataModelFromSchemaDefinition, GenericMutationCtx, GenericQueryCtx } from "convex/server";
import type { MutationBuilder, QueryBuilder } from "convex/server";
import { ConvexError, v } from "convex/values";
import schema, { progress, session, step } from "./schema";

type DataModel = DataModelFromSchemaDefinition<typeof schema>;

// The same as `_generated/server` has them, without generated code.
const mutation = mutationGeneric as MutationBuilder<DataModel, "public">;
const query = queryGeneric as QueryBuilder<DataModel, "public">;

type Reader = Pick<GenericQueryCtx<DataModel>, "db">;

const byRun = (ctx: Reader, runId: string) =>
  ctx.db
    .query("workflows")
    .withIndex("by_run", (q) => q.eq("runId", runId))
    .unique();

async function byId(ctx: Reader, workflowId: string) {
  const id = ctx.db.normalizeId("workflows", workflowId);
  const found = id === null ? null : await ctx.db.get(id);
  if (found === null) {
    throw new ConvexError(`there is no workflow ${workflowId}`);
  }
  return found;
}

/** The workflow that a run belongs to, if it is known already. */
async function known(ctx: GenericMutationCtx<DataModel>, runId?: string, workflowId?: string) {
  const own = runId === undefined ? null : await byRun(ctx, runId);
  if (own !== null || workflowId === undefined) {
    return own;
  }
  const named = await byId(ctx, workflowId);
  if (named.runId !== undefined && named.runId !== runId) {
    throw new ConvexError(`workflow ${workflowId} follows run ${named.runId} already`);
  }
  return named;
}

/**
 * Makes the workflow of a run, or attaches the run to the workflow `workflowId`; returns its id.
 * Without `runId` it is a workflow for a run to come: `orch pipeline run --workflow-id ID`.
 */
export const createWorkflow = mutation({
  args: {
    runId: v.optional(v.string()),
    workflowId: v.optional(v.string()),
    task: v.optional(v.string()),
    pipeline: v.optional(v.string()),
    status: v.optional(progress.status),
    startedAt: progress.startedAt,
    seq: v.optional(v.number()),
  },
  returns: v.id("workflows"),
  handler: async (ctx, { workflowId, ...given }) => {
    const seq = given.seq ?? 0;
    const found = await known(ctx, given.runId, workflowId);
    if (found === null) {
      const totals = { inputTokens: 0, outputTokens: 0 };
      return await ctx.db.insert("workflows", { totals, ...given, status: given.status ?? "pending", seq });
    }
    if (seq > found.seq) {
      await ctx.db.patch(found._id, { ...given, task: given.task ?? found.task, seq });
    }
    return found._id;
  },
});

/** Tells how a run stands. */
export const updateWorkflowStatus = mutation({
  args: { runId: v.string(), seq: v.number(), ...progress },
  returns: v.null(),
  handler: async (ctx, { runId, ...next }) => {
    const found = await byRun(ctx, runId);
    if (found === null) {
      throw new ConvexError(`there is no workflow of run ${runId}`);
    }
    if (next.seq > found.seq) {
      // Named one by one: what is absent now is cleared, as when a failed run is resumed.
      const { status, startedAt, endedAt, totals, error, seq } = next;
      await ctx.db.patch(found._id, { status, startedAt, endedAt, totals, error, seq });
    }
    return null;
  },
});

/** Tells how a step stands. */
export const upsertStep = mutation({
  args: step,
  returns: v.null(),
  handler: async (ctx, next) => {
    const found = await ctx.db
      .query("steps")
      .withIndex("by_key", (q) => q.eq("runId", next.runId).eq("key", next.key))
      .unique();
    if (found === null) {
      await ctx.db.insert("steps", next);
    } else if (next.seq > found.seq) {
      await ctx.db.replace(found._id, next);
    }
    return null;
  },
});

/** Tells how a session of a run stands. */
export const recordSession = mutation({
  args: session,
  returns: v.null(),
  handler: async (ctx, next) => {
    const found = await ctx.db
      .query("sessions")
      .withIndex("by_run", (q) => q.eq("runId", next.runId).eq("number", next.number))
      .unique();
    if (found === null) {
      await ctx.db.insert("sessions", next);
    } else if (next.seq > found.seq) {
      await ctx.db.replace(found._id, next);
    }
    return null;
  },
});

/** A run's workflow with its sessions; null when there is none. */
export const getWorkflow = query({
  args: { runId: v.string() },
  handler: async (ctx, { runId }) => {
    const found = await byRun(ctx, runId);
    if (found === null) {
      return null;
    }
    const sessions = await ctx.db
      .query("sessions")
      .withIndex("by_run", (q) => q.eq("runId", runId))
      .collect();
    return { ...found, sessions };
  },
});

/** The workflows, the latest first. */
export const listWorkflows = query({
  args: { limit: v.optional(v.number()) },
  handler: async (ctx, { limit }) => {
    const count = Math.min(Math.max(Math.trunc(limit ?? 50), 1), 500);
    return await ctx.db.query("workflows").order("desc").take(count);
  },
});

/** The steps of a run, in the order of its pipeline. */
export const listSteps = query({
  args: { runId: v.string() },
  handler: async (ctx, { runId }) =>
    await ctx.db
      .query("steps")
      .withIndex("by_run", (q) => q.eq("runId", runId))
      .collect(),
});
