//! A map whose copies share their entries.
//!
//! Each group gets a copy of what is in scope. If copies did not share their entries, the time would grow with the square
//! of the number of steps.

use rpds::RedBlackTreeMapSync;

/// Values by name, in the order in which the names were first inserted. A copy takes constant time. An insertion takes
/// time logarithmic in the number of entries, whether or not there are copies.
pub(super) struct SharedMap<V> {
    /// The position of each name.
    positions: RedBlackTreeMapSync<String, u64>,
    /// The names and values by position.
    entries: RedBlackTreeMapSync<u64, (String, V)>,
}

impl<V> Clone for SharedMap<V> {
    fn clone(&self) -> Self {
        Self { positions: self.positions.clone(), entries: self.entries.clone() }
    }
}

impl<V> Default for SharedMap<V> {
    fn default() -> Self {
        Self { positions: RedBlackTreeMapSync::new_sync(), entries: RedBlackTreeMapSync::new_sync() }
    }
}

impl<V> SharedMap<V> {
    /// Sets the value of a name, and returns its position. A name that the map already has keeps its position.
    pub(super) fn insert(&mut self, name: &str, value: V) -> u64 {
        let position = self.positions.get(name).copied();
        let position = position.unwrap_or_else(|| self.entries.last().map_or(0, |(last, _)| last + 1));
        self.positions.insert_mut(name.to_owned(), position);
        self.entries.insert_mut(position, (name.to_owned(), value));
        position
    }

    /// The name and the value at a position.
    pub(super) fn at(&self, position: u64) -> Option<(&String, &V)> {
        self.entries.get(&position).map(|(name, value)| (name, value))
    }

    /// The names and values, in the order in which the names were first inserted.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&String, &V)> {
        self.entries.values().map(|(name, value)| (name, value))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn names_keep_their_first_position_and_get_their_latest_value() {
        let mut map = SharedMap::default();
        for (name, value) in [("b", 1), ("a", 2), ("c", 3), ("a", 4)] {
            map.insert(name, value);
        }
        let entries: Vec<(&str, i32)> = map.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(entries, [("b", 1), ("a", 4), ("c", 3)]);
        assert_eq!(map.iter().next_back(), Some((&"c".to_owned(), &3)));
        assert_eq!(map.insert("a", 5), 1);
        assert_eq!((map.at(1), map.at(3)), (Some((&"a".to_owned(), &5)), None));
    }

    #[test]
    fn a_copy_shares_its_entries_and_has_its_own_additions() {
        let value = Arc::new(0);
        let mut map = SharedMap::default();
        for index in 0..1000 {
            map.insert(&format!("a{index}"), Arc::clone(&value));
        }
        let mut copy = map.clone();
        map.insert("map", Arc::clone(&value));
        copy.insert("copy", Arc::clone(&value));
        assert_eq!(Arc::strong_count(&value), 1003, "the map and its copy store no value twice");
        let last_names = |map: &SharedMap<Arc<i32>>| -> Vec<String> {
            map.iter().rev().take(2).map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(last_names(&map), ["map", "a999"]);
        assert_eq!(last_names(&copy), ["copy", "a999"]);
    }
}
