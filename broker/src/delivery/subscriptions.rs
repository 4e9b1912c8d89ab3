//! Who subscribed to what: a tree of topic levels, so that a match costs the depth of the topic and not the number of
//! subscriptions.

use std::collections::HashMap;

use crate::protocol::topic_name::{FilterName, TopicName};

/// A tree from topic filters to subscribers. `K` tells subscribers apart; `V` is what a subscription asks for.
#[derive(Debug)]
pub struct Subscriptions<K, V> {
    root: Level<K, V>,
    len: usize,
}

type Literals<K, V> = HashMap<Box<str>, Level<K, V>>;

#[derive(Debug)]
struct Level<K, V> {
    /// Most levels are the last of their filters: they have none, and there are as many of them as users.
    literal: Option<Box<Literals<K, V>>>,
    single: Option<Box<Level<K, V>>>,
    here: Vec<(K, V)>,
    below: Vec<(K, V)>,
}

impl<K, V> Default for Level<K, V> {
    fn default() -> Self {
        Level {
            literal: None,
            single: None,
            here: Vec::new(),
            below: Vec::new(),
        }
    }
}

impl<K, V> Level<K, V> {
    fn is_empty(&self) -> bool {
        self.literal.is_none()
            && self.single.is_none()
            && self.here.is_empty()
            && self.below.is_empty()
    }
}

impl<K, V> Default for Subscriptions<K, V> {
    fn default() -> Self {
        Subscriptions {
            root: Level::default(),
            len: 0,
        }
    }
}

impl<K: PartialEq, V> Subscriptions<K, V> {
    /// Subscriptions held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no subscription.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a subscription, or replaces the same subscriber's to the same filter and returns what it replaced.
    pub fn insert(&mut self, filter: &FilterName, subscriber: K, value: V) -> Option<V> {
        let mut level = &mut self.root;
        let mut below = false;
        for name in filter.as_str().split('/') {
            match name {
                "#" => below = true,
                "+" => level = level.single.get_or_insert_default(),
                name => {
                    let literal = level.literal.get_or_insert_default();
                    level = literal.entry(name.into()).or_default();
                }
            }
        }
        let list = if below {
            &mut level.below
        } else {
            &mut level.here
        };
        if let Some((_, old)) = list.iter_mut().find(|(other, _)| *other == subscriber) {
            return Some(std::mem::replace(old, value));
        }
        if list.is_empty() {
            // Most filters have one subscriber, and a vector begins with room for four.
            list.reserve_exact(1);
        }
        list.push((subscriber, value));
        self.len += 1;
        None
    }

    /// Removes a subscription; levels that nobody uses any more are freed.
    pub fn remove(&mut self, filter: &FilterName, subscriber: &K) -> Option<V> {
        let names = filter.as_str().split('/').collect::<Vec<_>>();
        let removed = remove(&mut self.root, &names, subscriber);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Calls `found` for every subscription that matches; a subscriber with several is found several times.
    pub fn for_each_match<'a>(&'a self, topic: &TopicName, mut found: impl FnMut(&'a K, &'a V)) {
        let topic = topic.as_str();
        let wild = !topic.starts_with('$');
        walk(&self.root, Some(topic), wild, &mut found);
    }
}

fn remove<K: PartialEq, V>(level: &mut Level<K, V>, names: &[&str], subscriber: &K) -> Option<V> {
    let take = |list: &mut Vec<(K, V)>| {
        let at = list.iter().position(|(other, _)| other == subscriber)?;
        Some(list.swap_remove(at).1)
    };
    match names.split_first() {
        None => take(&mut level.here),
        Some((&"#", _)) => take(&mut level.below),
        Some((&"+", rest)) => {
            let single = level.single.as_mut()?;
            let removed = remove(single, rest, subscriber);
            if single.is_empty() {
                level.single = None;
            }
            removed
        }
        Some((&name, rest)) => {
            let literals = level.literal.as_mut()?;
            let literal = literals.get_mut(name)?;
            let removed = remove(literal, rest, subscriber);
            if literal.is_empty() {
                literals.remove(name);
            }
            if literals.is_empty() {
                level.literal = None;
            }
            removed
        }
    }
}

fn walk<'a, K, V>(
    level: &'a Level<K, V>,
    rest: Option<&str>,
    wild: bool,
    found: &mut impl FnMut(&'a K, &'a V),
) {
    // `a/#` matches `a` too, so what is below is found at every step.
    if wild {
        for (subscriber, value) in &level.below {
            found(subscriber, value);
        }
    }
    let Some(rest) = rest else {
        for (subscriber, value) in &level.here {
            found(subscriber, value);
        }
        return;
    };
    let (name, rest) = rest
        .split_once('/')
        .map_or((rest, None), |(name, rest)| (name, Some(rest)));
    if let Some(literals) = &level.literal
        && let Some(literal) = literals.get(name)
    {
        walk(literal, rest, true, found);
    }
    if wild && let Some(single) = &level.single {
        walk(single, rest, true, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::topic_name::{MAX_LEVELS, MAX_SINGLE};
    use proptest::prelude::*;

    fn topic(text: &str) -> TopicName {
        TopicName::parse(text.as_bytes()).unwrap()
    }

    fn filter(text: &str) -> FilterName {
        FilterName::parse(text).unwrap()
    }

    fn found(tree: &Subscriptions<u32, ()>, name: &str) -> Vec<u32> {
        let mut found = Vec::new();
        tree.for_each_match(&topic(name), |subscriber, ()| found.push(*subscriber));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_second_subscription_to_the_same_filter_replaces_the_first() {
        let mut tree = Subscriptions::default();
        assert_eq!(tree.insert(&filter("a/+"), 1, "old"), None);
        assert_eq!(tree.insert(&filter("a/+"), 1, "new"), Some("old"));
        assert_eq!(tree.len(), 1);
    }

    /// All filters that there can be for one topic, with as many wildcards as there may be.
    #[test]
    fn the_wildest_tree_for_a_topic_has_a_bounded_number_of_leaves() {
        let mut tree = Subscriptions::<usize, ()>::default();
        for pattern in 0..1_u32 << MAX_LEVELS {
            if usize::try_from(pattern.count_ones()).unwrap() <= MAX_SINGLE {
                let levels = (0..MAX_LEVELS).map(|level| match pattern >> level & 1 {
                    0 => "a",
                    _ => "+",
                });
                let filter = levels.collect::<Vec<_>>().join("/");
                tree.insert(&FilterName::parse(&filter).unwrap(), tree.len(), ());
            }
        }
        let topic = vec!["a"; MAX_LEVELS].join("/");
        let topic = TopicName::parse(topic.as_bytes()).unwrap();
        let mut found = 0;
        tree.for_each_match(&topic, |_, ()| found += 1);
        assert_eq!((tree.len(), found), (6_885, 6_885));
    }

    #[test]
    fn removing_the_last_subscription_frees_its_levels() {
        let mut tree = Subscriptions::default();
        for name in ["a/b/c", "a/+/#", "#", "+"] {
            tree.insert(&filter(name), 1, ());
        }
        for name in ["a/b/c", "a/+/#", "#", "+"] {
            assert_eq!(tree.remove(&filter(name), &1), Some(()));
            assert_eq!(tree.remove(&filter(name), &1), None);
        }
        assert!(tree.root.is_empty());
        assert!(tree.is_empty());
    }

    proptest! {
        #[test]
        fn the_tree_finds_exactly_what_filters_match(
            filters in prop::collection::vec("(\\$?[ab]|\\+|)(/([ab]|\\+|)){0,3}(/#)?", 0..20),
            name in "(\\$?[ab]|)(/([ab]|)){0,4}",
        ) {
            prop_assume!(!name.is_empty());
            let filters = filters.iter().filter(|text| !text.is_empty()).map(|text| filter(text)).collect::<Vec<_>>();
            let mut tree = Subscriptions::default();
            for (subscriber, filter) in (0..).zip(&filters) {
                tree.insert(filter, subscriber, ());
            }
            let expected = (0..).zip(&filters).filter(|(_, filter)| filter.matches(&topic(&name))).map(|(n, _)| n);
            prop_assert_eq!(found(&tree, &name), expected.collect::<Vec<u32>>());
            for (subscriber, filter) in (0..).zip(&filters) {
                prop_assert_eq!(tree.remove(filter, &subscriber), Some(()));
            }
            prop_assert!(tree.root.is_empty());
        }
    }
}
