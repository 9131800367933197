//! The rules by which a byte-level tokenizer splits text into words before it encodes them: each model family has its
//! own patterns, and `tokenizer.ggml.pre` of a GGUF file names them.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";

/// The rules of a model family for splitting text into words.
pub(crate) struct PreTokenizerRules {
    /// The values of `tokenizer.ggml.pre` for these rules.
    names: &'static [&'static str],
    /// Patterns whose matches are words. Each pattern splits the results of the previous one further.
    patterns: &'static [&'static str],
    /// Whether a word that is in the vocabulary is encoded as that one token, without BPE merges.
    pub(crate) ignore_merges: bool,
    /// Whether the tokenizer first normalizes text to NFC.
    pub(crate) normalizes_nfc: bool,
    /// Whether to add a BOS token if the file does not specify it (`tokenizer.ggml.add_bos_token`).
    pub(crate) adds_bos: bool,
}

const fn new_rules(names: &'static [&'static str], patterns: &'static [&'static str]) -> PreTokenizerRules {
    PreTokenizerRules { names, patterns, ignore_merges: false, normalizes_nfc: false, adds_bos: false }
}

static ALL_RULES: [PreTokenizerRules; 8] = [
    PreTokenizerRules { normalizes_nfc: true, ..new_rules(&["qwen2", "deepseek-r1-qwen", "megrez"], &[QWEN2]) },
    PreTokenizerRules {
        ignore_merges: true,
        adds_bos: true,
        ..new_rules(&["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"], &[LLAMA3])
    },
    new_rules(&["smaug-bpe", "dbrx"], &[LLAMA3]),
    PreTokenizerRules { ignore_merges: true, adds_bos: true, ..new_rules(&["tekken"], &[TEKKEN]) },
    new_rules(&["smollm"], &[DIGIT, GPT2]),
    new_rules(&["gpt-2"], &[GPT2]),
    new_rules(&["deepseek-coder"], &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\u{d7ff}]+", DIGIT]),
    new_rules(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
];

impl PreTokenizerRules {
    /// Finds the rules with this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        ALL_RULES.iter().find(|rules| rules.names.contains(&name))
    }

    /// All names of rules.
    pub(crate) fn all_names() -> Vec<&'static str> {
        ALL_RULES.iter().flat_map(|rules| rules.names).copied().collect()
    }

    /// Creates the pre-tokenizer that splits text into words.
    pub(crate) fn pre_tokenizer(&self) -> tokenizers::Result<PreTokenizerWrapper> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        for pattern in self.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
        }
        steps.push(ByteLevel::new(false, false, false).into());
        Ok(Sequence::new(steps).into())
    }
}
