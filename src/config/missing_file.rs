//! Advice about a file of a folder that the pipeline names and that does not exist.

use crate::diagnostic::{Code, Diagnostic, did_you_mean};

/// A folder of the project, and how a pipeline names the files in it.
#[derive(Clone, Copy, Debug)]
pub struct NamedFolder<'a> {
    /// The name of the folder, such as `prompts`.
    pub folder: &'a str,
    /// The names of its files, as a pipeline writes them.
    pub names: &'a [String],
    /// The endings that a user may add to a name or leave out, outermost first.
    pub endings: &'static [&'static str],
}

impl NamedFolder<'_> {
    /// Adds advice to a diagnostic about a file that is missing in the folder. `written` is the name in the pipeline.
    #[must_use]
    pub fn add_advice(self, mut diagnostic: Diagnostic, written: &str) -> Diagnostic {
        let folder = self.folder;
        let leads_outside = written.starts_with('/')
            || written.contains('\\')
            || written.split(['/', '\\']).any(|component| component == "..");
        if leads_outside {
            diagnostic.code = Code::PathOutsideFolder;
            diagnostic.message = format!("`{written}` leads out of `{folder}/`");
            return diagnostic.with_help(format!("name a file in `{folder}/`"));
        }
        if let Some(name) = self.same_file(written) {
            let has_folder = self.without_folder(written) != written;
            let help = if has_folder {
                format!("names begin in `{folder}/`: write `{name}`")
            } else if name.len() > written.len() {
                format!("write `{name}`, with its ending")
            } else {
                format!("write `{name}`, without the ending")
            };
            return diagnostic.with_help(help).with_replacement(written, Some(name));
        }
        // The name without its ending may be similar, as `pln` in `pln.schema.json`.
        let stem = self.stem(self.without_folder(written));
        let is_similar = |name: &&str| did_you_mean(name, self.names.iter().map(String::as_str)).is_some();
        self.add_similar_name(diagnostic, [written, stem].into_iter().find(is_similar).unwrap_or(written))
    }

    /// Adds the most similar name to a diagnostic, or else the names of the files in the folder.
    #[must_use]
    pub fn add_similar_name(self, diagnostic: Diagnostic, written: &str) -> Diagnostic {
        let (folder, names) = (self.folder, self.names);
        if did_you_mean(written, names.iter().map(String::as_str)).is_some() {
            return diagnostic.with_suggestion(written, names.iter().map(String::as_str));
        }
        if names.is_empty() {
            return diagnostic.with_help(format!("the folder `{folder}/` is empty or missing"));
        }
        let quoted: Vec<_> = names.iter().take(8).map(|name| format!("`{name}`")).collect();
        diagnostic.with_help(format!("files in the folder: {}", quoted.join(", ")))
    }

    /// The name of the only file that `written` names except for the folder before it and its endings.
    fn same_file(&self, written: &str) -> Option<&str> {
        let stem = self.stem(self.without_folder(written));
        let mut names = self.names.iter().map(String::as_str).filter(|name| self.stem(name) == stem);
        let name = names.next().filter(|name| *name != written)?;
        names.next().is_none().then_some(name)
    }

    fn without_folder<'n>(&self, name: &'n str) -> &'n str {
        let name = name.strip_prefix("./").unwrap_or(name);
        name.strip_prefix(self.folder).and_then(|name| name.strip_prefix('/')).unwrap_or(name)
    }

    fn stem<'n>(&self, name: &'n str) -> &'n str {
        self.endings.iter().fold(name, |name, ending| name.strip_suffix(ending).unwrap_or(name))
    }
}

/// Says that a name leads to a link that orch can't follow.
#[must_use]
pub fn unusable_link(mut diagnostic: Diagnostic, path: &str) -> Diagnostic {
    diagnostic.code = Code::PathOutsideFolder;
    diagnostic.message = format!("`{path}` is a link that leads out of its folder or is broken");
    diagnostic
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceFile;

    fn advice(written: &str, names: &[&str]) -> (Vec<String>, Option<String>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let folder = NamedFolder { folder: "schemas", names: &names, endings: &[".json", ".schema"] };
        let diagnostic = Diagnostic::error(Code::SchemaNotFound, "there is no schema")
            .with_span(&SourceFile::new("a", written), 0..written.len());
        let diagnostic = folder.add_advice(diagnostic, written);
        (diagnostic.help, diagnostic.fix.map(|fix| fix.replacement))
    }

    #[test]
    fn a_name_with_its_folder_or_another_ending_names_the_file() {
        for (written, help) in [
            ("v.json", "write `v`, without the ending"),
            ("schemas/v.schema.json", "names begin in `schemas/`: write `v`"),
            ("./schemas/v", "names begin in `schemas/`: write `v`"),
        ] {
            assert_eq!(advice(written, &["v", "w"]), (vec![help.to_owned()], Some("v".to_owned())), "{written}");
        }
        let similar = (vec!["did you mean `plan`?".to_owned()], Some("plan".to_owned()));
        assert_eq!(advice("pln.schema.json", &["plan", "w"]), similar);
        let with_ending = (vec!["write `v.json`, with its ending".to_owned()], Some("v.json".to_owned()));
        assert_eq!(advice("v", &["v.json"]), with_ending);
    }

    #[test]
    fn a_name_that_several_files_could_have_gets_no_fix() {
        let (help, fix) = advice("schemas/v", &["v", "v.json"]);
        assert_eq!((help.len(), fix), (1, None), "{help:?}");
        assert_eq!(advice("vv", &[]).0, ["the folder `schemas/` is empty or missing"]);
    }
}
