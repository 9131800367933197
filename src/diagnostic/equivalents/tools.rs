//! Words of other tools that stand for all tools of an agent.

/// Advice for such a word in place of the list of tools.
pub const ALL_TOOLS_HELP: &str = "name the tools in a list: `[read, list, search, edit, write]`; `shell` and `fetch` \
                                  exist too, and a CLI agent has names of its own";

/// Words that stand for all tools, in lower case.
const ALL_WORDS: &[&str] = &["all", "any", "auto", "default", "everything", "full", "true", "yes", "*"];

/// Whether a word stands for all tools.
pub fn means_all_tools(word: &str) -> bool {
    let word = word.trim().to_lowercase();
    ALL_WORDS.contains(&word.as_str())
}
