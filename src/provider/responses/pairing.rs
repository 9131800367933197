//! Pairs items with their partners by one key after the other.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Items, each with at most one partner.
pub(super) struct Pairing {
    /// The position of each item's partner.
    partners: Vec<Option<usize>>,
    /// Whether each possible partner is still without an item.
    is_free: Vec<bool>,
}

impl Pairing {
    /// Items without partners.
    pub(super) fn new(item_count: usize, partner_count: usize) -> Self {
        Self { partners: vec![None; item_count], is_free: vec![true; partner_count] }
    }

    /// Pairs the remaining items with the remaining partners that have the same key, in their orders.
    pub(super) fn pair<K: Hash + Eq>(
        &mut self,
        item_key: impl Fn(usize) -> Option<K>,
        partner_key: impl Fn(usize) -> Option<K>,
    ) {
        let mut free: HashMap<K, VecDeque<usize>> = HashMap::new();
        for (position, _) in self.is_free.iter().enumerate().filter(|(_, is_free)| **is_free) {
            if let Some(key) = partner_key(position) {
                free.entry(key).or_default().push_back(position);
            }
        }
        for (index, partner) in self.partners.iter_mut().enumerate().filter(|(_, partner)| partner.is_none()) {
            *partner = item_key(index).and_then(|key| free.get_mut(&key)?.pop_front());
            if let Some(is_free) = partner.and_then(|position| self.is_free.get_mut(position)) {
                *is_free = false;
            }
        }
    }

    /// Whether each item has a partner.
    pub(super) fn has_all_items(&self) -> bool {
        self.partners.iter().all(Option::is_some)
    }

    /// Whether each possible partner has an item.
    pub(super) fn has_all_partners(&self) -> bool {
        !self.is_free.contains(&true)
    }

    /// The position of each item's partner.
    pub(super) fn into_partners(self) -> Vec<Option<usize>> {
        self.partners
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partner_has_one_item() {
        let (items, partners) = (["x", "b", "b", "y"], ["b", "z", "b", "b"]);
        let mut pairing = Pairing::new(items.len(), partners.len());
        pairing.pair(|index| items.get(index), |position| partners.get(position));
        assert!(!pairing.has_all_items() && !pairing.has_all_partners());
        pairing.pair(|_| Some(()), |_| Some(()));
        assert!(pairing.has_all_items() && pairing.has_all_partners());
        assert_eq!(pairing.into_partners(), [Some(1), Some(0), Some(2), Some(3)]);
    }
}
