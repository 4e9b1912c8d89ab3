//! One change of the store, all of it or nothing: a transaction, or a part of one that goes on.

use std::ops::Deref;

use rusqlite::Connection;

use super::StoreError;

/// Undone when dropped without [`Change::commit`].
#[derive(Debug)]
pub(super) struct Change<'a> {
    db: &'a Connection,
    /// Whether it is part of a transaction that goes on after it.
    part: bool,
    over: bool,
}

impl<'a> Change<'a> {
    /// Begins; who comes second waits.
    pub(super) fn begin(db: &'a Connection) -> Result<Change<'a>, StoreError> {
        let part = !db.is_autocommit();
        db.prepare_cached(match part {
            true => "SAVEPOINT change",
            false => "BEGIN IMMEDIATE",
        })?
        .execute([])?;
        let over = false;
        Ok(Change { db, part, over })
    }

    /// Lets it go on, for [`Change::resume`], which is to be told what this says.
    pub(super) fn keep(mut self) -> bool {
        self.over = true;
        self.part
    }

    /// What goes on. `part`: of a transaction that goes on after it.
    pub(super) fn resume(db: &'a Connection, part: bool) -> Change<'a> {
        let over = false;
        Change { db, part, over }
    }

    /// Makes it last: when this returns it is on disk, or will be with the transaction that it is part of.
    pub(super) fn commit(mut self) -> Result<(), StoreError> {
        // SQLite ends a transaction by itself when there is no room for it.
        if self.db.is_autocommit() {
            self.over = true;
            return Err(StoreError::DiskFull);
        }
        self.db
            .prepare_cached(match self.part {
                true => "RELEASE change",
                false => "COMMIT",
            })?
            .execute([])?;
        self.over = true;
        Ok(())
    }
}

impl Deref for Change<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.db
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if self.over || self.db.is_autocommit() {
            return;
        }
        let undo = match self.part {
            true => "ROLLBACK TO change; RELEASE change",
            false => "ROLLBACK",
        };
        if let Err(error) = self.db.execute_batch(undo) {
            tracing::error!(%error, "a change of the store could not be undone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, store};
    use super::*;

    #[test]
    fn a_group_is_there_as_a_whole_and_what_failed_within_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        store
            .group(|store| {
                assert!(store.note_refused(&[1; 32], at(1))?);
                assert!(!store.note_refused(&[1; 32], at(1))?);
                {
                    let part = Change::begin(&store.db)?;
                    part.execute("DELETE FROM refused", [])?;
                }
                assert!(!store.was_refused(&[2; 32])?);
                Ok::<_, StoreError>(())
            })
            .unwrap();
        assert!(store.was_refused(&[1; 32]).unwrap());
        assert!(store.db.is_autocommit());
    }

    #[test]
    fn of_a_group_that_failed_nothing_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(&folder);
        let failed = store.group(|store| {
            assert!(store.note_refused(&[1; 32], at(1))?);
            Err::<(), _>(StoreError::WrongKey)
        });
        assert!(matches!(failed, Err(StoreError::WrongKey)));
        assert!(!store.was_refused(&[1; 32]).unwrap());
        assert!(store.note_refused(&[2; 32], at(1)).unwrap());
    }

    #[test]
    fn nobody_sees_half_of_a_group() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, two) = (store(&folder), store(&folder));
        one.group(|one| {
            one.note_refused(&[1; 32], at(1))?;
            assert!(!two.was_refused(&[1; 32])?);
            Ok::<_, StoreError>(())
        })
        .unwrap();
        assert!(two.was_refused(&[1; 32]).unwrap());
    }
}
