//! How a byte-level vocabulary splits text into words before it looks for tokens: each model family has patterns of its
//! own, which the file names (`tokenizer.ggml.pre`).

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

/// A way to split text into words.
pub(crate) struct Words {
    /// The names by which files refer to it.
    names: &'static [&'static str],
    /// Patterns whose matches are words, each applied to what the previous one left.
    patterns: &'static [&'static str],
    /// Whether a word that is a token is taken whole, whatever the merges say.
    pub(crate) whole_words: bool,
    /// Whether text is first brought into its composed form (NFC).
    pub(crate) composed: bool,
    /// Whether a prompt begins with a beginning-of-sequence token, unless the file says otherwise.
    pub(crate) begins: bool,
}

const fn words(names: &'static [&'static str], patterns: &'static [&'static str]) -> Words {
    Words { names, patterns, whole_words: false, composed: false, begins: false }
}

static KNOWN: [Words; 8] = [
    Words { composed: true, ..words(&["qwen2", "deepseek-r1-qwen", "megrez"], &[QWEN2]) },
    Words {
        whole_words: true,
        begins: true,
        ..words(&["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"], &[LLAMA3])
    },
    words(&["smaug-bpe", "dbrx"], &[LLAMA3]),
    Words { whole_words: true, begins: true, ..words(&["tekken"], &[TEKKEN]) },
    words(&["smollm"], &[DIGIT, GPT2]),
    words(&["gpt-2"], &[GPT2]),
    words(&["deepseek-coder"], &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\u{d7ff}]+", DIGIT]),
    words(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
];

impl Words {
    /// The way with this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.names.contains(&name))
    }

    /// Every name that is known.
    pub(crate) fn names() -> Vec<&'static str> {
        KNOWN.iter().flat_map(|known| known.names).copied().collect()
    }

    /// The step of a tokenizer that splits text into words.
    pub(crate) fn pre_tokenizer(&self) -> tokenizers::Result<PreTokenizerWrapper> {
        let mut parts: Vec<PreTokenizerWrapper> = Vec::new();
        for pattern in self.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            parts.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
        }
        parts.push(ByteLevel::new(false, false, false).into());
        Ok(Sequence::new(parts).into())
    }
}
