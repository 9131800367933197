//! Variables that hold a part of another value: what a condition shows about the one also holds for the other.

use super::scope::{Narrowing, TypeScope, depends_on, path_below};

/// The maximum number of paths to the same value that the checker keeps facts about.
const MAX_EQUAL_PATHS: usize = 16;

impl TypeScope<'_> {
    /// Whether a path begins at a namespace or computes an index from one, so that its value can change.
    pub(super) fn depends_on_namespace(&self, path: &str) -> bool {
        self.vars.iter().any(|(name, binding)| binding.key.is_none() && depends_on(path, name))
    }

    /// The paths that lead to the same value as a path, with the path itself.
    pub(super) fn equal_paths(&self, path: String) -> Vec<String> {
        let mut paths = vec![path];
        let mut position = 0;
        while let Some(path) = paths.get(position).cloned() {
            position += 1;
            for (name, binding) in &self.vars {
                let Some(origin) = &binding.origin.path else { continue };
                let equal_paths = [(name, origin), (origin, name)]
                    .into_iter()
                    .filter_map(|(from, to)| Some(format!("{to}{}", path_below(&path, from)?)));
                for equal in equal_paths {
                    if paths.len() < MAX_EQUAL_PATHS && !paths.contains(&equal) {
                        paths.push(equal);
                    }
                }
            }
        }
        paths
    }

    /// Adds what is known about the value of which a variable now holds the same value or a part.
    pub(super) fn copy_narrowings_of_origin(&mut self, name: &str) {
        let Some(origin) = self.vars.get(name).and_then(|binding| binding.origin.path.clone()) else { return };
        let copied: Vec<(String, Narrowing)> = self
            .narrowings
            .iter()
            .filter_map(|(path, narrowing)| Some((format!("{name}{}", path_below(path, &origin)?), narrowing.clone())))
            .collect();
        self.narrowings.extend(copied);
    }
}
