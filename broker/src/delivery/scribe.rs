//! Who writes to a client: its connection's own task, or whoever has just put something before it and is awake already.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Weak;

/// How many clients one who has put something before them writes to. Where there are more, all threads are to share in it.
const MOST: usize = 4;

/// The writing side of a connection.
pub trait Scribe: Debug + Send + Sync {
    /// Wakes the connection's own task, which writes what is due.
    fn wake(&self);

    /// Writes what is due, as far as that goes without waiting, and leaves the rest to the task.
    fn write_now(&self);
}

thread_local! {
    static GATHERED: RefCell<Option<Vec<Weak<dyn Scribe>>>> = const { RefCell::new(None) };
}

/// Leaves the waking to whoever gathers on this thread. Returns whether somebody does.
pub fn leave(scribe: &Weak<dyn Scribe>) -> bool {
    GATHERED.with_borrow_mut(|gathered| match gathered {
        Some(gathered) => {
            gathered.push(Weak::clone(scribe));
            true
        }
        None => false,
    })
}

/// Those who were to be woken and are not yet. Dropping this wakes them.
#[must_use]
#[derive(Debug, Default)]
pub struct Gathered(Vec<Weak<dyn Scribe>>);

impl Gathered {
    /// Does something, and adds those who would have been woken by it.
    pub fn gather<T>(&mut self, act: impl FnOnce() -> T) -> T {
        GATHERED.set(Some(std::mem::take(&mut self.0)));
        // Also if it panics: nobody is left waiting.
        let _taking = Taking(self);
        act()
    }

    /// Writes for all of them, in the order in which they would have been woken.
    pub fn write_now(mut self) {
        if self.0.len() > MOST {
            return;
        }
        for scribe in self.0.drain(..) {
            if let Some(scribe) = scribe.upgrade() {
                scribe.write_now();
            }
        }
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        for scribe in self.0.iter().filter_map(Weak::upgrade) {
            scribe.wake();
        }
    }
}

struct Taking<'a>(&'a mut Gathered);

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.0.0 = GATHERED.take().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Counting {
        woken: AtomicUsize,
        written: AtomicUsize,
    }

    impl Counting {
        /// How often it was woken, and how often somebody wrote for it.
        fn counts(&self) -> (usize, usize) {
            (
                self.woken.load(Ordering::Relaxed),
                self.written.load(Ordering::Relaxed),
            )
        }
    }

    impl Scribe for Counting {
        fn wake(&self) {
            self.woken.fetch_add(1, Ordering::Relaxed);
        }

        fn write_now(&self) {
            self.written.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn left(scribe: &Arc<Counting>) -> bool {
        let scribe: Weak<dyn Scribe> = Arc::downgrade(scribe) as _;
        leave(&scribe)
    }

    #[test]
    fn whoever_is_left_to_one_who_gathers_is_written_for_and_not_woken() {
        let scribe = Arc::new(Counting::default());
        assert!(!left(&scribe), "nobody gathers");
        let mut gathered = Gathered::default();
        for _ in 0..2 {
            assert!(gathered.gather(|| left(&scribe)));
        }
        assert!(!left(&scribe), "nobody gathers any more");
        gathered.write_now();
        assert_eq!(scribe.counts(), (0, 2));
    }

    #[test]
    fn many_are_woken_so_that_all_threads_share_in_them() {
        let scribe = Arc::new(Counting::default());
        let mut gathered = Gathered::default();
        for _ in 0..=MOST {
            gathered.gather(|| left(&scribe));
        }
        gathered.write_now();
        assert_eq!(scribe.counts(), (MOST + 1, 0));
    }

    #[test]
    fn nobody_is_left_waiting_by_a_panic() {
        let scribe = Arc::new(Counting::default());
        let failed = catch_unwind(AssertUnwindSafe(|| {
            Gathered::default().gather(|| {
                left(&scribe);
                panic!("the dispatcher fails");
            })
        }));
        assert!(failed.is_err());
        assert_eq!(scribe.counts(), (1, 0));
        assert!(!left(&scribe), "nobody gathers any more");
    }
}
