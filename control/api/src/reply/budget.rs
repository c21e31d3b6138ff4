//! How much of the bodies of requests is held at once: so much of each user, and so much in all. What is taken as it
//! arrives is given back when the request has been answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So much each user may hold whatever others do, so that they cannot keep away small requests such as heartbeats.
const LITTLE: usize = 64 << 10;

/// The room for bodies. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    each: usize,
    all: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    users: HashMap<Arc<str>, usize>,
}

/// What one request has of it.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    user: Arc<str>,
    bytes: usize,
}

impl Budget {
    /// So many bytes of each user, and so many in all.
    #[must_use]
    pub fn new(each: usize, all: usize) -> Self {
        Self { each, all, held: Arc::default() }
    }

    /// Nothing yet, for a request of a user.
    #[must_use]
    pub fn share(&self, user: &str) -> Share {
        Share { budget: self.clone(), user: user.into(), bytes: 0 }
    }

    /// How many bytes are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a user who holds `mine` of the `all` that is held may hold `more` besides.
    fn fits(&self, all: usize, mine: usize, more: usize) -> bool {
        let (all, mine) = (all.saturating_add(more), mine.saturating_add(more));
        mine <= self.each && (all <= self.all || mine <= LITTLE)
    }
}

impl Share {
    /// Takes some more, unless that is too much.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        if more == 0 {
            return true;
        }
        let mut held = self.budget.lock();
        let mine = held.users.get(&self.user).copied().unwrap_or_default();
        let fits = self.budget.fits(held.all, mine, more);
        if fits {
            held.all += more;
            *held.users.entry(self.user.clone()).or_default() += more;
            self.bytes += more;
        }
        fits
    }

    /// Gives all of it back.
    pub fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes == 0 {
            return;
        }
        let mut held = self.budget.lock();
        held.all = held.all.saturating_sub(bytes);
        if let Some(mine) = held.users.get_mut(&self.user) {
            *mine = mine.saturating_sub(bytes);
            if *mine == 0 {
                held.users.remove(&self.user);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_share_and_all_have_a_bound() {
        const MIB: usize = 1 << 20;
        let budget = Budget::new(2 * MIB, 3 * MIB);
        let (mut one, mut two, mut other) = (budget.share("a"), budget.share("a"), budget.share("b"));
        assert!(one.grow(MIB) && two.grow(MIB));
        assert!(!two.grow(1), "more than one user's share");
        assert!(other.grow(MIB));
        assert!(!other.grow(1), "more than there is");
        assert!(budget.share("c").grow(LITTLE), "a little is always there");
        assert!(!budget.share("c").grow(LITTLE + 1));
        assert_eq!(budget.held(), 3 * MIB);
        drop(one);
        assert!(two.grow(MIB));
        two.clear();
        drop((two, other));
        assert_eq!(budget.held(), 0);
        assert!(budget.lock().users.is_empty());
    }
}
