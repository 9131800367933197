// The types of the bodies that orch sends, made from the types of the official SDKs. `tests/it/sdk_types.rs` writes each
// body as a constant of one of these types, so that the compiler reports missing, wrong and unknown properties.

import type Anthropic from "@anthropic-ai/sdk";
import type { ConverseCommandInput, ToolUseBlock } from "@aws-sdk/client-bedrock-runtime";
import type { Content, GenerationConfig, SafetySetting, Tool, ToolConfig } from "@google/genai";
import type OpenAI from "openai";

export type openai = OpenAI.Chat.ChatCompletionCreateParamsStreaming;

export type responses = OpenAI.Responses.ResponseCreateParamsStreaming;

// The SDK has removed the sampling parameters, which Claude accepts up to 4.6.
export type anthropic = Anthropic.MessageCreateParamsStreaming & { temperature?: number; top_p?: number };

// The SDK's `generateContentStream` takes other parameters than the REST API: it moves the model into the URL, and
// spreads its `config` over these properties of the body. Their own types are those of the API.
export type gemini = Json<{
  contents: Content[];
  systemInstruction?: Content;
  generationConfig?: GenerationConfig;
  safetySettings?: SafetySetting[];
  tools?: Tool[];
  toolConfig?: ToolConfig;
  cachedContent?: string;
}>;

// The model is in the URL.
export type converse = Json<Omit<ConverseCommandInput, "modelId">>;

// Any JSON value, in the type of the AWS SDK.
type AnyJson = NonNullable<ToolUseBlock["input"]>;

// The values of a type as JSON has them: bytes are a text in Base64, and a member of an enum is the text of its value.
type Json<T> = AnyJson extends T ? T : Encoded<T>;
type Encoded<T> = T extends Uint8Array
  ? string
  : T extends string
    ? `${T}`
    : T extends object
      ? { [K in keyof T]: Json<T[K]> }
      : T;
